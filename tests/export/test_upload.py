"""A kept model to a hub on the loopback address; the token stays where it was."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sweep.export.__main__ import main
from tests.loopback_uploads import LoopbackUploads

# of what its client asks of the library below it
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackUploads]:
    """A hub, and a token that may write there."""
    from huggingface_hub import constants

    monkeypatch.setenv("HF_TOKEN", "hf_writer")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/no/login")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # plain LFS
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with LoopbackUploads().listening() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        yield hub


def test_the_folder_arrives_whole_with_its_card_as_of_now(
    hub: LoopbackUploads,
    swept: Any,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    cell = swept.cell("wanda-50")
    caplog.set_level(logging.DEBUG)
    main([str(cell), "--to", "hub", "--repo", "me/pruned"])
    repo = hub.repos["me/pruned"]
    kept = {file.name: file.read_bytes() for file in (cell / "model").iterdir()}
    assert repo.files == kept
    assert repo.private
    assert repo.commits == [f"{cell.name}, by compression-sweep"]
    said = capsys.readouterr()
    assert said.out.startswith(f"{hub.address}/me/pruned/commit/")
    assert "hf_writer" not in said.out + said.err + caplog.text
    assert not any(b"hf_writer" in content for content in repo.files.values())
    assert not any("hf_writer" in file.read_text() for file in cell.rglob("*.txt"))


def test_a_repository_that_is_there_gets_another_commit_and_no_file_twice(
    hub: LoopbackUploads, swept: Any
) -> None:
    for _ in range(2):
        main([str(swept.cell("wanda-2of4")), "--to", "hub", "--repo", "me/it", "--public"])
    assert not hub.repos["me/it"].private
    assert len(hub.repos["me/it"].commits) == 2
    assert len([line for line in hub.asked if line.startswith("PUT")]) == 1


def refusal(swept: Any, *words: str) -> str:
    with pytest.raises(SystemExit) as exit:
        main([str(swept.cell("wanda-50")), "--to", "hub", *words])
    assert isinstance(exit.value.code, str)
    assert "\n" not in exit.value.code
    return exit.value.code


class TestRefusals:
    def test_without_a_token_nothing_is_asked(
        self, hub: LoopbackUploads, swept: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for token in ("", "  "):
            monkeypatch.setenv("HF_TOKEN", token)
            line = refusal(swept, "--repo", "me/pruned")
            assert line.endswith(
                "needs a token that may write: log in (hf auth login), or set HF_TOKEN"
            )
        assert hub.asked == []

    def test_without_a_repository_or_with_half_of_its_name(
        self, hub: LoopbackUploads, swept: Any
    ) -> None:
        assert "--to hub: needs --repo OWNER/NAME" in refusal(swept)
        for name in ("pruned", "a/b/c", "me/", "me/a b"):
            assert f"--repo {name}: must be OWNER/NAME" in refusal(swept, "--repo", name)
        assert hub.asked == []

    @pytest.mark.parametrize(
        ("token", "reason"),
        [
            ("hf_wrong", "hub does not take the token of HF_TOKEN (or of hf auth login); renew it"),
            ("hf_reader", "token of HF_TOKEN (or of hf auth login) may not write there"),
        ],
    )
    def test_a_token_that_is_not_taken_is_not_printed(
        self,
        token: str,
        reason: str,
        hub: LoopbackUploads,
        swept: Any,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setenv("HF_TOKEN", token)
        line = refusal(swept, "--repo", "me/pruned")
        assert f"--repo me/pruned: the {reason}" in line
        said = capsys.readouterr()
        assert token not in line + said.out + said.err
        assert hub.repos == {}

    def test_a_hub_that_is_broken(self, hub: LoopbackUploads, swept: Any) -> None:
        hub.busy = [500]
        assert "--repo me/pruned: the hub answers 500" in refusal(swept, "--repo", "me/pruned")

    def test_an_upload_that_breaks_off_leaves_no_commit(
        self, hub: LoopbackUploads, swept: Any
    ) -> None:
        hub.broken = True
        line = refusal(swept, "--repo", "me/pruned")
        assert "--repo me/pruned: an upload broke off (" in line
        assert hub.repos["me/pruned"].commits == []

    def test_a_hub_that_is_not_there(
        self, hub: LoopbackUploads, swept: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from huggingface_hub import constants

        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"http://127.0.0.1:{free.getsockname()[1]}"
        monkeypatch.setattr(constants, "ENDPOINT", address)
        line = refusal(swept, "--repo", "me/pruned")
        assert f"--repo me/pruned: {address} does not answer" in line


def test_a_cell_that_keeps_no_model_is_no_repository(hub: LoopbackUploads, swept: Any) -> None:
    with pytest.raises(SystemExit, match="its model was not kept"):
        main([str(swept.cell("magnitude")), "--to", "hub", "--repo", "me/pruned"])
    assert hub.asked == []


def test_the_token_of_a_login_is_taken_where_the_environment_has_none(
    hub: LoopbackUploads, swept: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from huggingface_hub import constants

    (tmp_path / "token").write_text("hf_writer\n")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.delenv("HF_TOKEN")
    main([str(swept.cell("wanda-50")), "--to", "hub", "--repo", "me/pruned"])
    assert len(hub.repos["me/pruned"].commits) == 1
