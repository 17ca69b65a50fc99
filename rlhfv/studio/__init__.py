"""The page. Nothing of it leaves this machine: Gradio and the Hub's client read these when they are imported."""

import os

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
