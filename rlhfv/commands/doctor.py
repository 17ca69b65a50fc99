"""`doctor`: whether a model trains and answers on this machine, how fast, and what it needs."""

import argparse

from rlhfv.commands.terminal import show, show_json, tell
from rlhfv.settings import DEMO_MODEL


def doctor(arguments: argparse.Namespace) -> int:
    from rlhfv.models.catalog import find_entry
    from rlhfv.services.doctor import examine

    entry = find_entry(arguments.model or DEMO_MODEL, arguments.revision)
    tell(f"Trying {entry.title}: a few steps of training, then two answers …")
    findings = []
    for finding in examine(entry, arguments.image):
        findings.append(finding)
        if not arguments.json:
            show(f"{finding.name:<26} {finding.state:<9} {finding.text}".rstrip())
            show(*(f"{'':<36} {finding.error[part]}" for part in ("what", "why", "fix") if finding.error))
    failed = sum(finding.state == "failed" for finding in findings)
    if arguments.json:
        show_json({"model": entry.id, "findings": [finding.to_dict() for finding in findings], "failed": failed})
    return 1 if failed else 0
