"""Upload the folder of a model to the Hugging Face Hub.

hub = open_hub("name/model")                   # before the conversion, so that wrong credentials cost no time
push(hub, "name/model", Path("model"))         # the address of the commit
"""

from pathlib import Path
from typing import Any

from neox_code.errors import ConfigError, ConversionError


def open_hub(repository: str) -> Any:
    """Return the client of the Hub. Raise ConfigError if the package, a token, the network or a valid name is missing."""
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.utils import validate_repo_id
    except ImportError:
        raise ConfigError("--push needs the package huggingface_hub. Run: pip install -e '.[push]'") from None
    hub = HfApi()
    try:
        validate_repo_id(repository)
        hub.whoami()
    except Exception as error:  # the classes of network errors differ between the package's versions
        raise ConfigError(
            f"--push {repository}: {get_first_line(error)} Check the name (OWNER/MODEL), the network, and the token: run hf auth "
            "login or set HF_TOKEN."
        ) from None
    return hub


def push(hub: Any, repository: str, folder: Path) -> str:
    """Upload the files of a folder, make the repository if it is new, and return the address of the commit.

    Raise ConversionError if the Hub refuses the upload or cannot be reached. The folder is kept.
    """
    try:
        hub.create_repo(repository, exist_ok=True)
        return hub.upload_folder(repo_id=repository, folder_path=folder, commit_message="Upload model").commit_url
    except Exception as error:  # as above
        raise ConversionError(
            f"{folder} is written, but its upload to {repository} failed: {get_first_line(error)} Run: "
            f"hf upload {repository} {folder}"
        ) from None


def get_first_line(error: Exception) -> str:
    """Return the first line of an error's message as a sentence."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line if line.endswith(".") else f"{line}."
