"""What of a pair can be searched: words and filters as terms of one full-text index, so that any combination of them
is one intersection of sorted lists, whose size is the total.
"""

import hashlib
import unicodedata
from functools import lru_cache

import regex

from rlhfv.corrections.diff import token_kind, words
from rlhfv.corrections.pairs import PreferencePair

MAX_QUERY_CHARS = 1_000

_SEARCHABLE = regex.compile(r"[\p{L}\p{N}\p{S}]")
_FILTER_MARK = "\ue000"  # private use: no word begins with it
_TOO_LONG = 64


def search_terms(text: str) -> list[str]:
    """The words, symbols and emoji of a text, folded, each once. Scripts without blanks give one term a grapheme, and
    one for each two neighbours, so that a word in them is found by its characters in order.
    """
    folded = unicodedata.normalize("NFC", text.encode("utf-8", "ignore").decode("utf-8")).casefold()
    terms: dict[str, None] = {}
    before = ""
    # A grapheme may hold a blank (behind U+0600, say), but a term of the index may not.
    for word in (part for whole in words(folded) for part in whole.split()):
        word = word[:_TOO_LONG]
        if not _is_searchable(word):
            before = ""
            continue
        terms[word] = None
        alone = token_kind(word[:2]) != "letters"
        if alone and before:
            terms[before + word] = None
        before = word if alone else ""
    return list(terms)


@lru_cache(maxsize=8192)
def _is_searchable(word: str) -> bool:
    return _SEARCHABLE.search(word) is not None


def filter_term(name: str, value: str) -> str:
    digest = hashlib.blake2b(f"{name}={value}".encode("utf-8", "replace"), digest_size=8).hexdigest()
    return f"{_FILTER_MARK}{digest}"


def index_text(pair: PreferencePair, visitor: str) -> str:
    """All terms of a pair, parted by blanks: its texts, its filters."""
    filters = {("kind", edit.kind) for edit in pair.edits} | {
        ("annotator", pair.provenance.annotator),
        ("model", str(pair.provenance.model)),
        ("outcome", pair.outcome),
        ("visitor", visitor),
    }
    texts = "\n".join([pair.prompt.question, pair.rejected, pair.chosen])
    return " ".join([*sorted(filter_term(*item) for item in filters), *search_terms(texts)])


def match_expression(text: str, filters: dict[str, str]) -> str | None:
    """The FTS5 expression for rows that have all words of `text`, the last as the beginning of a word, and pass all
    filters. None when nothing narrows the search; then every row matches.
    """
    terms = search_terms(text[:MAX_QUERY_CHARS])
    found = [_quoted(filter_term(name, value)) for name, value in filters.items()]
    found += [_quoted(term) for term in terms[:-1]]
    if terms:
        found.append(_quoted(terms[-1]) + " *")
    return " AND ".join(found) or None


def _quoted(term: str) -> str:
    return '"' + term.replace('"', '""') + '"'
