"""Chats, drafts and pictures of passing visitors: they go some time after their visitor unless something was made of
them.
"""

import time
from datetime import UTC, datetime
from pathlib import Path

from rlhfv.corrections.database import Database
from rlhfv.corrections.images import IMAGE_NAME

_NEEDED = "SELECT answer FROM judged UNION SELECT answer FROM tasks WHERE answer NOT NULL"
_NOW = "CAST(strftime('%s', 'now') AS INTEGER)"
# Where names of pictures stand: what is corrected, waits for correction, is shared, or is being talked about.
_DOCUMENTS = (
    *(("answers", "document"), ("revisions", "document"), ("tasks", "document")),
    *(("conversations", "document"), ("memory", "value")),
)


class Expiry(Database):
    """The database at `path`, as somebody sees it who deletes what nobody corrected.

    A visitor is there as long as their chat or a draft changes. Answers that were judged or wait in the queue stay,
    and so do pictures that a correction, a task, a chat that is still there or a public link shows, and drawn scenes.
    """

    def watch(self) -> None:
        """Notes from now on when each visitor was there last."""
        with self._transaction() as connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS chat_times (visitor TEXT PRIMARY KEY, seen INTEGER NOT NULL) WITHOUT ROWID"
            )
            for part in ("conversations", "drafts"):
                connection.execute(
                    f"CREATE TRIGGER IF NOT EXISTS seen_{part} AFTER INSERT ON {part} BEGIN"
                    " DELETE FROM chat_times WHERE visitor = new.visitor;"
                    f" INSERT INTO chat_times VALUES (new.visitor, {_NOW}); END"
                )

    def forget(self, before: float) -> int:
        """Deletes chats, drafts and answers of visitors who were there last before that time (seconds since 1970), and
        of the others answers from before it that their chat no longer shows. Returns how many answers went.
        """
        since = datetime.fromtimestamp(before, UTC).isoformat(timespec="seconds")
        connection = self._connection
        connection.execute("PRAGMA secure_delete = ON")
        with self._transaction():
            connection.execute(
                "INSERT INTO chat_times SELECT visitor, ? FROM"
                " (SELECT visitor FROM conversations UNION SELECT visitor FROM drafts)"
                " WHERE visitor NOT IN (SELECT visitor FROM chat_times)",
                (int(time.time()),),
            )
            gone = "visitor IN (SELECT visitor FROM chat_times WHERE seen < ?)"
            connection.execute(f"DELETE FROM conversations WHERE {gone}", (before,))
            connection.execute(f"DELETE FROM drafts WHERE {gone} AND answer NOT IN ({_NEEDED})", (before,))
            answers = connection.execute(
                f"SELECT id FROM answers WHERE visitor != '' AND created < ? AND id NOT IN ({_NEEDED})"
                " AND NOT EXISTS (SELECT 1 FROM drafts WHERE drafts.answer = answers.id)"
                " AND NOT EXISTS (SELECT 1 FROM conversations"
                "  WHERE conversations.visitor = answers.visitor AND instr(conversations.document, answers.id))",
                (since,),
            ).fetchall()
            connection.executemany("DELETE FROM memory WHERE key = 'hints:' || ?", answers)
            connection.executemany("DELETE FROM answers WHERE id = ?", answers)
            connection.execute(
                "DELETE FROM chat_times WHERE visitor NOT IN"
                " (SELECT visitor FROM conversations UNION SELECT visitor FROM drafts)"
            )
        return len(answers)

    def forget_pictures(self, folder: Path, before: float) -> int:
        """Deletes the pictures of that shelf that nothing needs and that came before that time. Returns how many."""
        old = [path for path in _pictures(folder) if path.stat().st_mtime < before]
        if not old:
            return 0
        needed, gone = self._needed_pictures(), 0
        for path in old:
            # Whoever sends the same picture again makes it a new one, also in this moment.
            if path.name not in needed and path.stat().st_mtime < before:
                path.unlink(missing_ok=True)
                gone += 1
        return gone

    def _needed_pictures(self) -> set[str]:
        found = {name for (name,) in self._connection.execute("SELECT name FROM image_sources")}
        for part, column in _DOCUMENTS:
            for (text,) in self._connection.execute(f"SELECT {column} FROM {part} WHERE {column} NOT NULL"):
                found.update(IMAGE_NAME.findall(text))
        return found


def _pictures(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if IMAGE_NAME.fullmatch(path.name)] if folder.is_dir() else []
