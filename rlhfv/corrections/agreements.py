"""Which terms people agreed to before something of theirs was kept, and when."""

from dataclasses import dataclass

from rlhfv.corrections.database import Database, storable


@dataclass(frozen=True)
class Agreement:
    """`version` names the text that was agreed to, at `agreed` (ISO 8601, UTC)."""

    version: str
    agreed: str


class AgreementStore(Database):
    def agree(self, visitor: str, version: str, text: str, when: str) -> Agreement:
        """Keeps who agreed to which text; agreeing again changes nothing."""
        with self._transaction() as connection:
            connection.execute("INSERT OR IGNORE INTO terms VALUES (?, ?)", (version, text))
            connection.execute("INSERT OR IGNORE INTO agreements VALUES (?, ?, ?)", (storable(visitor), version, when))
        return self.agreement(visitor, version)

    def agreement(self, visitor: str, version: str) -> Agreement | None:
        """Whether and when the visitor agreed to that version."""
        row = self._connection.execute(
            "SELECT version, agreed FROM agreements WHERE visitor = ? AND version = ?", (storable(visitor), version)
        ).fetchone()
        return Agreement(*row) if row else None

    def agreement_of_pair(self, id: str) -> Agreement | None:
        """What the person whose pair it is had agreed to last when its newest revision was kept; None for nothing."""
        row = self._connection.execute(
            "SELECT version, agreed FROM agreements JOIN pairs ON pairs.visitor = agreements.visitor"
            " JOIN revisions ON pair = pairs.id AND number = pairs.revision"
            " WHERE pairs.id = ? AND agreed <= revisions.created ORDER BY agreed DESC LIMIT 1",
            (storable(id),),
        ).fetchone()
        return Agreement(*row) if row else None

    def terms_text(self, version: str) -> str | None:
        """The text that was agreed to under that version."""
        row = self._connection.execute("SELECT text FROM terms WHERE version = ?", (version,)).fetchone()
        return row[0] if row else None
