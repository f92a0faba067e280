"""Secrets of the simulated webhook providers: random ones, made at the first `up` of their profile."""

import os
import secrets
from pathlib import Path

from dotenv import dotenv_values

from contracts.webhooks import SECRETS
from deploy.native.settings import NativeSettings

PROFILE = "webhooks"
NAMES = tuple(SECRETS.values())


def file(settings: NativeSettings) -> Path:
    """Where they are kept, in the state folder; the commands of `placar` read it too."""
    return settings.state_dir / "secrets.env"


def known(settings: NativeSettings) -> dict[str, str]:
    """The secrets by their settings: those of the environment, else those of the file; empty where there are none."""
    kept = dotenv_values(file(settings))
    return {name: os.environ.get(name, kept.get(name) or "") for name in NAMES}


def make(settings: NativeSettings) -> None:
    """Keep two random secrets for each setting that has none, where the profile is chosen; one set to nothing stays so.

    Two, because the simulator rolls them: the older one signs first.
    """
    kept = dotenv_values(file(settings))
    missing = [name for name in NAMES if name not in os.environ and name not in kept]
    if PROFILE in settings.profiles and missing:
        file(settings).touch(mode=0o600)
        with file(settings).open("a", encoding="utf-8") as kept_file:
            kept_file.writelines(f"{name}={secrets.token_hex(32)},{secrets.token_hex(32)}\n" for name in missing)
