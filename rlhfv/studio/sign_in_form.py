"""How one signs in on the Hub: on a Space by a button that leads there and back, elsewhere with a token."""

import gradio as gr

from rlhfv.studio.events import script


class SignInButton(gr.LoginButton):
    """Gradio's button and with it Gradio's way to sign in, for a Space only: elsewhere Gradio plays the Hub, with a
    token. It comes back to the tab and the answer that were open, and what was typed comes back too: studio.js sees
    to that.
    """

    def get_block_name(self) -> str:
        return "button"

    def activate(self) -> None:
        script(self.click, "() => window.studio?.leaveFor('login/huggingface')")


def build_form(name: str, on_hub: bool, info: str, **look) -> tuple[gr.Textbox, gr.Button, gr.Button]:
    """The form of the place `name`: a field for a token that `info` explains, a button that takes it, with `look`, and
    one that takes this machine's. All three are hidden where the Hub itself is asked."""
    if on_hub:
        SignInButton("Sign in with Hugging Face", size="md", elem_id=f"{name}-sign-in-there")
    token = gr.Textbox(
        label="Token",
        type="password",
        placeholder="hf_…",
        info=info,
        max_length=400,
        html_attributes=gr.InputHTMLAttributes(autocomplete="off", spellcheck=False),
        visible=not on_hub,
        elem_id=f"{name}-token",
    )
    with gr.Row(elem_classes="tight", visible=not on_hub):
        sign_in = gr.Button("Sign in", size="sm", elem_id=f"{name}-sign-in-with", **look)
        machine = gr.Button("Use this machine's token", size="sm", elem_id=f"{name}-sign-in-machine")
    return token, sign_in, machine
