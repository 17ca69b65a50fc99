"""The embedded demo model: drawn scenes, a tiny LLaVA that invents things, an oracle annotator."""

from pathlib import Path

WEIGHTS = Path(__file__).with_name("weights")  # loads with any from_pretrained
