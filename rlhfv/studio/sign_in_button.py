"""The button that leads to the Hub and back. It is for a Space only: elsewhere Gradio plays the Hub, with a token."""

import gradio as gr

from rlhfv.studio.events import script


class SignInButton(gr.LoginButton):
    """Gradio's button and with it Gradio's way to sign in, but it comes back to the tab and the answer that were open,
    and what was typed comes back too: studio.js sees to that.
    """

    def get_block_name(self) -> str:
        return "button"

    def activate(self) -> None:
        script(self.click, "() => window.studio?.leaveFor('login/huggingface')")


def sign_in_button(elem_id: str) -> SignInButton:
    return SignInButton("Sign in with Hugging Face", size="md", elem_id=elem_id)
