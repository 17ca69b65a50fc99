"""The Statistics tab: what was corrected, by whom, of which model, and how long it took."""

from collections.abc import Callable
from dataclasses import dataclass

from rlhfv.services import Actor, Services
from rlhfv.studio import statistics_view as shown
from rlhfv.studio.view import view


@dataclass(frozen=True)
class StatisticsTab:
    """`show(who)` fills the tab."""

    outputs: tuple
    show: Callable[[Actor], dict]


def build(services: Services) -> StatisticsTab:
    everything = view(elem_id="statistics", label="Statistics")

    def show(who: Actor) -> dict:
        whose = "review" in who.rights if services.settings.team else services.settings.single_user
        return {everything: shown.statistics(services.reviewing.statistics(who), whose)}

    return StatisticsTab((everything,), show)
