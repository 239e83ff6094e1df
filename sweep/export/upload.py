"""A folder to the Hugging Face hub. The token is the user's own and is written nowhere."""

from __future__ import annotations

from pathlib import Path

from sweep.hub import NAME
from sweep.hub_errors import UNTAKEN
from sweep.refusal import Refusal


def check(repo: str | None) -> str:
    """The token, if everything is there that an upload needs: HF_TOKEN, or that of a login.

    Raises:
        Refusal: no repository, a name that can be none, or no token.
    """
    from huggingface_hub import get_token

    if repo is None:
        raise Refusal("", "", "--to hub: needs --repo OWNER/NAME, the repository to upload to")
    if not NAME.fullmatch(repo):
        raise Refusal("", "", f"--repo {repo}: must be OWNER/NAME")
    token = get_token()
    if not token:
        reason = "needs a token that may write: log in (hf auth login), or set HF_TOKEN"
        raise Refusal("", "", f"--to hub: {reason}")
    return token


def upload(folder: Path, repo: str, token: str, *, public: bool, message: str) -> str:
    """Create the repository where there is none, and commit the folder's files to it.

    Args:
        folder: what is uploaded.
        repo: `owner/name`.
        token: that may write there.
        public: whether a new repository is for everyone to see.
        message: of the commit.

    Returns:
        The commit's address.

    Raises:
        Refusal: the hub does not answer, or does not allow it.
    """
    from huggingface_hub import HfApi, errors

    api = HfApi(token=token)
    try:
        api.create_repo(repo, private=not public, exist_ok=True)
        done = api.upload_folder(repo_id=repo, folder_path=folder, commit_message=message)
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        reasons = {
            401: f"{UNTAKEN}; renew it",
            403: "the token of HF_TOKEN (or of hf auth login) may not write there",
            429: "the hub asks for patience; try again later",
        }
        first = (str(error).splitlines() or [""])[0]
        reason = reasons.get(status, f"the hub answers {status} ({first})")
        raise Refusal("", "", f"--repo {repo}: {reason}") from error
    except (errors.HTTPError, OSError) as error:  # type: ignore[attr-defined]  # of its own httpx
        reason = f"{api.endpoint} does not answer ({type(error).__name__}); try again"
        raise Refusal("", "", f"--repo {repo}: {reason}") from error
    except RuntimeError as error:  # a file, tried again in vain
        first = (str(error.__cause__ or error).splitlines() or [""])[0]
        raise Refusal("", "", f"--repo {repo}: an upload broke off ({first}); try again") from error
    return str(done.commit_url)
