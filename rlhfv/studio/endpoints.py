"""Every endpoint of the app: what it does and which right it takes. A new one that is not in here fails the tests.

An event of the page is an endpoint that anybody can call who reads the page's source, so that the services check each
call. `right` is the one without which nothing comes of it; "" is for anybody, because there is nothing to know or to
change that is not the caller's own at this moment. But for `PUBLIC` none of them is part of an API: names and
arguments may change.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Endpoint:
    right: str
    changes: bool


PUBLIC = ("chat", "correct", "export")
"""The API for programs (`api.py`): their names and arguments stay. Nothing else is part of it."""
CHANGES = {
    "chat": """chat chat_ask chat_suggest chat_regenerate chat_upload chat_add_another chat_new_scene
        chat_choose_example chat_strip_action chat_choose chat_swap_columns chat_start_over backends_sign_out
        backends_sign_in_by_hand share_act welcome_act guide_act""",
    "correct": """correct chat_vote chat_judge chat_agree_to correct_keep_draft correct_save correct_agree_to
        correct_judge_faithful correct_skip_it correct_act pairs_act pairs_import_file publish_set_named""",
    "review": "review_accept_pair review_send_pair_back review_choose_first review_choose_second review_merge_both",
    "train": """train_act train_start_run train_answer train_add_oracle train_export_adapter evaluate_act
        evaluate_start_run evaluate_answer_room base_choice_choose benchmarks_take_in
        benchmarks_act benchmark_answers_begin benchmark_answers_stop_answering""",
    "publish": "publish_begin_push publish_begin_adapter publish_sign_in_by_hand publish_sign_out",
    "manage": """judged_act pairs_erase publish_begin_pull publish_sign_in_as_owner backends_sign_in_as_owner
        tasks_take_uploads tasks_take_dataset tasks_begin_writing tasks_stop_writing tasks_save_settings people_let_in
        people_set_password people_act chat_put_beside chat_take_away""",
}
SHOWS = {
    "": """wiring_show_person chat_stop_all chat_leave_edit chat_close_terms correct_close_terms train_stop_all
        train_name_start""",
    "chat": """wiring_open_page wiring_visit_chat chat_edit_last chat_share_last backends_choose guide_look
        guide_follow""",
    "correct": """guide_correct_it wiring_visit_correct wiring_visit_pairs wiring_visit_statistics wiring_correct_this
        wiring_show_history correct_bring_hints correct_ask_terms correct_open_next pairs_search pairs_select
        pairs_turn pairs_tell_losses pairs_export_pairs export""",
    "annotate": "tasks_tick tasks_turn",
    "review": "wiring_visit_review wiring_review_pair review_select review_turn review_undo",
    "train": """wiring_visit_train wiring_visit_evaluate wiring_chat_with train_tick train_open_run train_compare_with
        train_forget_copy train_choose_recipe train_describe train_check_run train_ask_again evaluate_tick
        evaluate_open_run benchmarks_choose_first benchmarks_compare_sets benchmarks_filter_items benchmarks_turn
        benchmarks_open_item benchmarks_make_page judged_tick benchmark_answers_tick
        benchmark_answers_tick_voices leaderboard_open_board leaderboard_sort""",
    "publish": "wiring_visit_publish publish_look publish_tick publish_choose_run",
    "manage": "wiring_visit_tasks wiring_visit_people",
}
EVENTS = {
    name: Endpoint(right, changes)
    for table, changes in ((CHANGES, True), (SHOWS, False))
    for right, names in table.items()
    for name in names.split()
}
"""The events of the page by the name that `events.private` gives them, module and function."""

CLOSED = (
    *("/openapi.json", "/monitoring", "/gradio_api/openapi.json", "/gradio_api/deep_link", "/gradio_api/mcp"),
    *("/gradio_api/run-history", "/gradio_api/runs", "/gradio_api/proxy=", "/gradio_api/dev/", "/gradio_api/vibe-"),
    *("/gradio_api/undo-vibe-", "/gradio_api/process_recording", "/gradio_api/custom_component/"),
    *("/gradio_api/component_server", "/gradio_api/stream/", "/gradio_api/api/"),
    *("/gradio_api/file/",),
)
"""What Gradio serves and this page does not use, by how the path begins: nobody gets there."""
PARTS = (
    *("/svelte/", "/static/", "/assets/", "/favicon.ico", "/theme.css", "/robots.txt", "/pwa_icon", "/manifest.json"),
    *("/gradio_api/theme.css", "/gradio_api/startup-events", "/gradio_api/app_id"),
)
"""The same for everybody."""
OF_THE_VISIT = (
    *("/", "/config", "/gradio_api/user", "/gradio_api/login_check", "/gradio_api/token", "/gradio_api/heartbeat/"),
    *("/gradio_api/info",),
    *("/gradio_api/queue/", "/gradio_api/run/", "/gradio_api/call/", "/gradio_api/cancel", "/gradio_api/reset"),
    *("/gradio_api/upload", "/gradio_api/file=", "/images/", "/login", "/logout"),
)
"""The page, its queue (where the rights of `EVENTS` hold), files that are named by a hash, and signing in and out."""
BY_LINK = ("/shared/",)
"""What a visitor made public, for whoever has the link."""


def is_closed(path: str) -> bool:
    return path.startswith(CLOSED)


def describe_route(path: str) -> str:
    """Who gets what at a path that is no event; "" for one that nobody thought of."""
    for prefixes, told in ((CLOSED, "closed"), (PARTS, "anybody"), (BY_LINK, "who has the link")):
        if path.startswith(prefixes):
            return told
    whole = tuple(prefix for prefix in OF_THE_VISIT if prefix != "/")
    return "the visitor" if path == "/" or path.startswith(whole) else ""
