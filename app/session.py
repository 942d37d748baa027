"""`maskedit session`: what `ns-train maskedit` has done to a scene, undoing it between two runs, and files of it."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..editors import InputError
from ..plugin.session import EditSession
from ..plugin.session_export import ExportOptions, export_session
from ..plugin.session_offline import check_is_idle, open_run, resume_step, standing_step, take_back
from ..plugin.session_records import EditRecord
from .pictures import check_output

_TOLD = ("editor", "prompt", "keywords", "seconds", "mask_area", "outside_change")
"""What the table tells of the last edit's trace."""
RunFolder = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]


@dataclass(frozen=True, kw_only=True)
class SessionShowCommand:
    """Show what a run was told, which edits it made, and what each view shows."""

    run_folder: RunFolder
    """Folder of a maskedit run, such as outputs/SCENE/maskedit/TIME."""
    step: int | None = None
    """Show the session as it was before this edit step; None = as it stands."""
    json: bool = False
    """Print JSON instead of tables."""

    def run(self) -> None:
        """Print it."""
        session = open_run(self.run_folder)
        step = _checked_step(session, self.step)
        told = describe_session(session, step)
        if self.json:
            print(json.dumps(told, indent=2))
        else:
            _print(told)


@dataclass(frozen=True, kw_only=True)
class SessionUndoCommand:
    """Take edits of a stopped run back: the last sweep, or all since an instruction or an edit step."""

    run_folder: RunFolder
    """Folder of a maskedit run; the next `ns-train ... --load-dir RUN/nerfstudio_models` goes on without the edits."""
    to_instruction: int | None = None
    """Go back to the end of this instruction, by its number in `maskedit session show`; 0 = to the photos."""
    to_step: int | None = None
    """Go back to just before this edit step."""

    def run(self) -> None:
        """Take back, and say what holds now."""
        if self.to_instruction is not None and self.to_step is not None:
            raise InputError("expected --to-instruction or --to-step, got both: leave one out")
        session = open_run(self.run_folder)
        done = take_back(session, to_step=self.to_step, to_instruction=self.to_instruction)
        print(f"{done.edits} edits taken back; from edit step {done.step} on: {done.now.describe()}")


@dataclass(frozen=True, kw_only=True)
class SessionExportCommand:
    """Write the edited photos of a run under their own names, with masks and an index, or as a dataset."""

    run_folder: RunFolder
    """Folder of a maskedit run."""
    output: Path
    """A new or empty folder."""
    step: int | None = None
    """Write what the views showed before this edit step; None = what they show."""
    masks: bool = True
    """Write masks as well."""
    compared: bool = False
    """Write each photo beside its edit as well."""
    lossless: bool = False
    """Write every picture as PNG; without it, a JPEG stays one."""
    dataset: bool = False
    """Write the views that were not edited as well, and a transforms.json: a scene for any method of nerfstudio."""

    def run(self) -> None:
        """Write and say what was written."""
        session = open_run(self.run_folder)
        step = _checked_step(session, self.step)
        check_output(self.output)
        options = ExportOptions(
            step=step, masks=self.masks, compared=self.compared, lossless=self.lossless, dataset=self.dataset
        )
        views = export_session(session, self.output, options)["views"]
        edited = sum(view["is_edited"] for view in views)
        rest = f" and {len(views) - edited} that are not" if len(views) > edited else ""
        print(f"{edited} edited views{rest} as of edit step {step}: {self.output}")


Parts = (
    Annotated[SessionShowCommand, tyro.conf.subcommand("show")]
    | Annotated[SessionUndoCommand, tyro.conf.subcommand("undo")]
    | Annotated[SessionExportCommand, tyro.conf.subcommand("export")]
)


@dataclass(frozen=True, kw_only=True)
class SessionCommand:
    """Look at the edits of a scene, take them back, or write them to files."""

    what: Annotated[tyro.conf.OmitSubcommandPrefixes[Parts], tyro.conf.arg(name="")]

    def run(self) -> None:
        """Run the one that was chosen."""
        self.what.run()


def describe_session(session: EditSession, step: int) -> dict[str, Any]:
    """Everything a session tells, as JSON can hold it.

    Args:
        session: of a run.
        step: the edit step before which it is shown.
    """
    records = [record for record in session.records if record.at < step]
    gone = session.hidden(step)
    last = records[-1] if records else None
    return {
        "session": str(session.root),
        "edit_step": step,
        "goes_on_from": resume_step(session),
        "is_running": not check_is_idle(session),
        "resets": session.generation,
        "scene": None if session.source is None else str(session.source),
        "editor": session.settings.get("editor"),
        "model": session.settings.get("model"),
        "edits": sum(record.image is not None for record in records),
        "undone": len(gone),
        "nothing_found": sum(record.image is None for record in records),
        "sweeps": len({record.sweep for record in records}),
        "instructions": [
            {
                "number": held.number,
                "instructions": [
                    {"text": each.text, "keyword": each.keyword, "strength": each.strength}
                    for each in held.settings.instructions
                ],
                "editor": held.settings.editor or session.settings.get("editor"),
                "guidance_scale": held.settings.guidance_scale,
                "image_guidance_scale": held.settings.image_guidance_scale,
                "since": held.since,
                "until": held.until,
                "edits": held.edits,
                "undone": held.undone,
            }
            for held in session.history(step)
        ],
        "events": [asdict(event) for event in session.events if event.step <= step],
        "views": list(_describe_views(session, step)),
        "last_edit": None if last is None else asdict(last),
    }


def _describe_views(session: EditSession, step: int) -> Iterator[dict[str, Any]]:
    shown = session.working_set(step)
    tried = {record.view: record for record in session.records if record.at < step}
    for view in range(max([len(session.photos), *(place + 1 for place in tried)])):
        record = shown.get(view)
        known = record or tried.get(view)
        name = session.photos[view].name if session.photos else (known.photo if known else "")
        state = {"view": view, "photo": name, "edit": None, "reason": known.reason if known else "not edited yet"}
        if record is not None:
            state |= {"edit": record.index, "edit_step": record.at, "sweep": record.sweep, "reason": ""}
            state |= {"instructions": list(record.instructions), "editor": record.editor, "image": record.image}
            state |= {"mask": record.mask, "masks": list(record.masks), "mask_share": _mask_share(record)}
        elif known is not None and known.image is not None:
            state["reason"] = "taken back"
        yield state


def _mask_share(record: EditRecord) -> str:
    areas = record.trace.get("mask_area")
    return f"{areas[0]:.1%}" if isinstance(areas, list | tuple) and areas else ""


def _checked_step(session: EditSession, step: int | None) -> int:
    last = standing_step(session)
    if step is not None and not 0 <= step <= last:
        raise InputError(f"expected an edit step from 0 to {last} for --step, got {step}: give one of them")
    return last if step is None else step


def _print(told: dict[str, Any]) -> None:
    console = Console()
    head = Table(show_header=False, box=None, pad_edge=False)
    head.add_row("session", escape(told["session"]))
    head.add_row("scene", escape(told["scene"] or "reconstructed in the same run"))
    state = "a run is going on" if told["is_running"] else f"the next run goes on from edit step {told['goes_on_from']}"
    head.add_row("edit step", f"{told['edit_step']}; {state}")
    counts = [f"{told['edits']} in {told['sweeps']} sweeps"]
    counts += [f"{told['undone']} taken back"] if told["undone"] else []
    counts += [f"{told['nothing_found']} times nothing was found"] if told["nothing_found"] else []
    counts += [f"{told['resets']} resets before"] if told["resets"] else []
    head.add_row("edits", ", ".join(counts))
    console.print(head)
    console.print(_instruction_table(told["instructions"]))
    events = [event for event in told["events"] if event["kind"] != "settings"]
    if events:
        console.print("also: " + "; ".join(escape(_say_event(event)) for event in events))
    console.print(_view_table(told["views"], told["instructions"]))
    last = told["last_edit"]
    if last is not None:
        trace = {name: last["trace"][name] for name in _TOLD if last["trace"].get(name) not in (None, [])}
        console.print(escape(f"last edit, of {last['photo']}: {json.dumps(trace)}; all of it with --json"))


def _instruction_table(instructions: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, title="instructions", title_justify="left")
    for name in ("no.", "instruction", "strength", "editor", "guidance", "edit steps", "edits"):
        table.add_column(name)
    for held in instructions:
        undone = f", {held['undone']} taken back" if held["undone"] else ""
        table.add_row(
            str(held["number"]),
            escape("; ".join(each["text"] for each in held["instructions"])),
            "; ".join(f"{each['strength']:g}" for each in held["instructions"]),
            held["editor"] or "",
            _say_scales(held["guidance_scale"], held["image_guidance_scale"]),
            f"{held['since']} to {held['until']}",
            f"{held['edits']}{undone}",
        )
    return table


def _say_scales(*scales: float | None) -> str:
    """Of the text and, where one was given, of the photo."""
    said = ["as configured" if scale is None else f"{scale:g}" for scale in scales]
    return said[0] if scales[1] is None else "; ".join(said)


def _say_event(event: dict[str, Any]) -> str:
    when = f"at edit step {event['step']}"
    if event["kind"] == "pause":
        return f"{'paused' if event['value'] else 'started'} {when}"
    if event["kind"] == "undo":
        return (
            f"{'last sweep undone' if event['value'] is None else 'back to step ' + str(event['value']['to'])} {when}"
        )
    return f"{event['kind']} {when}"


def _view_table(views: list[dict[str, Any]], instructions: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, title="views", title_justify="left")
    for name in ("view", "photo", "shows", "instruction no.", "mask"):
        table.add_column(name)
    for view in views:
        row = [view["reason"], "", ""]
        if view["edit"] is not None:
            at = view["edit_step"]
            numbers = [str(held["number"]) for held in instructions if held["since"] <= at < held["until"]]
            row = [f"edit {view['edit'] + 1}, step {at}", ", ".join(numbers), view["mask_share"]]
        table.add_row(str(view["view"]), escape(view["photo"]), *(escape(each) for each in row))
    return table
