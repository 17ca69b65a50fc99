"""The part of the Evaluate tab that lists every adapter with where it comes from and what it scored."""

import gradio as gr

from rlhfv.services import Services
from rlhfv.studio import benchmarks_view as shown
from rlhfv.studio.events import private
from rlhfv.studio.view import view
from rlhfv.studio.visitor import actor


def build(services: Services, tab: gr.Tab) -> None:
    board = view(elem_id="leaderboard", label="Leaderboard")

    def open_board(request: gr.Request):
        return shown.leaderboard(services.reporting.leaderboard(actor(request)))

    def sort(event: gr.EventData, request: gr.Request):
        return shown.leaderboard(services.reporting.leaderboard(actor(request), event.ref))

    private(tab.select, open_board, None, board)
    private(board.select, sort, None, board, trigger_mode="always_last")
