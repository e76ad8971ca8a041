"""What the obligations of a grant mean for one HTTP response.

Pure: `duties_of` merges the obligations of all actions of a request; `plan` makes of them, of the response's head and
of what the response answers to, the head that the client gets and the transform of the body. What cannot be rewritten
where something is due raises CannotMask, with a reason for the client: types without a known structure, other charsets
than UTF-8, parts of a body, codings that cannot be undone. A status does not matter: what an error says is a result.
"""

from __future__ import annotations

import http
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Protocol, assert_never

from pep.core.model import (
    FieldMask,
    LimitAffected,
    LimitRows,
    MaskFields,
    Obligation,
    ReadOnly,
    RecordSession,
    RedactText,
    RemoveHeaders,
    SetHeaders,
    TimeLimit,
    Unsupported,
)
from pep.http.coding import CannotMask, Decoder, codings
from pep.http.masking import Rewriter, Rule
from pep.http.media import Kind, MediaType, media_type
from pep.http.messages import Chunked, Field, Fields, Length, NoBody, ResponseHead
from pep.http.redaction import Redactor
from pep.http.shown_fields import is_shown
from pep.http.transforms import (
    AT_ONCE,
    Body,
    Events,
    Identity,
    Lines,
    Plain,
    RedactedText,
    Rewritten,
    Searched,
    Sequence,
    Transform,
    Whole,
)

if TYPE_CHECKING:
    from pep.http.scrub import Scrub

__all__ = [
    "NO_DUTIES",
    "SUPPORTED",
    "CannotMask",
    "Duties",
    "Plan",
    "duties_of",
    "plan",
    "scrubbed_plan",
    "shown_heads",
]

SUPPORTED: Final = frozenset(
    {"mask", "redact_text", "limit_rows", "time_limit", "set_headers", "remove_headers", "record"}
)

# What is true of the target's bytes and not of the client's.
_OF_THE_BYTES: Final = (
    "Accept-Ranges",
    "Content-Digest",
    "Content-Encoding",
    "Content-Length",
    "Content-MD5",
    "Content-Range",
    "Digest",
    "Repr-Digest",
    "Want-Content-Digest",
)
_VALIDATORS: Final = ("ETag", "Last-Modified", "Link", "Signature", "Signature-Input")
# What is true of a document only as long as nothing is taken out of it.
OF_THE_WHOLE: Final = (
    "Accept-Ranges", "Content-Digest", "Content-MD5", "Content-Range", "Digest", "ETag", "Last-Modified", "Repr-Digest",
    "Signature", "Signature-Input",
)  # fmt: skip
# RFC 9110, section 7.6.1.
_HOP_BY_HOP: Final = ("Connection", "Keep-Alive", "Proxy-Connection", "TE", "Trailer", "Transfer-Encoding", "Upgrade")

# 205 should have none too, but nothing in its framing says so, and some have one.
_WITHOUT_BODY: Final = frozenset({204, 304})
_PARTIAL_CONTENT: Final = 206
_RANGE_NOT_SATISFIABLE: Final = 416
_SWITCHING_PROTOCOLS: Final = 101

# A body of a known length up to this is held whole, so that its length can be said again.
_SMALL: Final = 64 * 1024


class GraphQL(Protocol):
    """What a GraphQL request asked for: response path -> schema path for every alias; None where that is not known."""

    @property
    def aliases(self) -> Mapping[str, str] | None: ...


@dataclass(frozen=True, slots=True)
class Duties:
    """The obligations of one request, merged. The session keeps `seconds` and the headers, which are the request's."""

    masks: tuple[FieldMask, ...] = ()
    rows: tuple[LimitRows, ...] = ()
    seconds: float | None = None
    redact: RedactText | None = None
    set_headers: tuple[tuple[str, str], ...] = ()
    remove_headers: frozenset[str] = frozenset()

    @property
    def rewrites(self) -> bool:
        """Whether the response's body has to be looked at."""
        return bool(self.masks or self.rows or self.redact)


@dataclass(frozen=True, slots=True)
class Plan:
    """The head as the client gets it, and what to do with the body.

    Where `body.held`, the framing is Chunked and may become a Length once the body is there.
    """

    head: ResponseHead
    body: Transform = field(default_factory=Identity)


NO_DUTIES: Final = Duties()


def duties_of(obligations: Iterable[Iterable[Obligation]]) -> Duties:
    """The union over all actions: every mask, every limit, the shortest time. Raises CannotMask for a contradiction."""
    masks: dict[FieldMask, None] = {}
    rows: dict[LimitRows, None] = {}
    seconds: list[float] = []
    detectors: set[str] = set()
    patterns: dict[str, None] = {}
    headers: dict[str, tuple[str, str]] = {}
    removed: set[str] = set()
    for obligation in (each for of_action in obligations for each in of_action):
        match obligation:
            case MaskFields(fields):
                masks.update(dict.fromkeys(fields))
            case LimitRows():
                rows[obligation] = None
            case TimeLimit(limit):
                seconds.append(limit)
            case RedactText(names, texts):
                detectors |= names
                patterns.update(dict.fromkeys(texts))
            case SetHeaders(pairs):
                for name, value in pairs:
                    if headers.setdefault(name.lower(), (name, value))[1] != value:
                        raise CannotMask("policy asks for two values of one request header")
            case RemoveHeaders(names):
                removed |= {name.lower() for name in names}
            case ReadOnly() | RecordSession() | LimitAffected() | Unsupported():
                # The first is a session's, which the session looks at, the second the record's; nothing here is a
                # number of changed rows; an unsupported one never comes with a grant.
                raise CannotMask("policy asks for something that cannot be done for a single request")
            case never:
                assert_never(never)
    if removed & headers.keys():
        raise CannotMask("policy asks to set and to remove one request header")
    redact = RedactText(frozenset(detectors), tuple(patterns)) if detectors or patterns else None
    return Duties(
        tuple(masks), tuple(rows), min(seconds, default=None), redact, tuple(headers.values()), frozenset(removed)
    )


def plan(
    head: ResponseHead,
    method: str,
    duties: Duties,
    scrub: Scrub,
    *,
    decoded_limit: int,
    graphql: GraphQL | None = None,
    hash_keys: Mapping[str, bytes] | None = None,
) -> Plan:
    """What reaches the client of the response with this head to a request with this method. Raises CannotMask.

    `decoded_limit` bounds what is held of a body, what one record of a stream may be, and what one piece of a body may
    grow to when it is decoded; `hash_keys` are the keys of HashMask by their names.
    """
    if not duties.rewrites:
        return scrubbed_plan(shown_heads(head, scrub, scrub.secrets), method, scrub, decoded_limit)
    fields = _end_to_end(scrub.in_fields(head.fields))
    # The reason phrase is free text too.
    head = replace(head, reason=_phrase(head.status), fields=fields)
    if head.status == _SWITCHING_PROTOCOLS:
        raise CannotMask("what follows a change of the protocol cannot be masked")
    redactor = Redactor(duties.redact.detectors, duties.redact.patterns) if duties.redact else None
    if _empty(head, method):
        return Plan(replace(head, fields=_rewritten_fields(fields, duties, redactor, _type_if_told(fields))))
    if head.status == _PARTIAL_CONTENT or (fields.first("Content-Range") and head.status != _RANGE_NOT_SATISFIABLE):
        raise CannotMask("a part of a body cannot be masked")
    media = media_type(fields)
    aliases = _aliases(media, graphql, duties)
    records = media.kind in (Kind.LINES, Kind.SEQUENCE)
    rewriter = Rewriter(Rule(duties.masks, duties.rows, redactor, aliases, records, hash_keys or {}))
    held = media.kind is Kind.JSON or _small(head)
    decoder = Decoder(codings(fields), decoded_limit, total=held)
    body = _body(media, duties, rewriter, redactor, decoded_limit)
    shown = replace(head, fields=_rewritten_fields(fields, duties, redactor, media), framing=Chunked())
    scrubbing = scrub.stream() if scrub else None
    return Plan(shown, Rewritten(decoder, body, scrubbing, held=held, rewriter=rewriter, redactor=redactor))


def shown_heads(head: ResponseHead, scrub: Scrub, _secrets: tuple[bytes, ...]) -> tuple[ResponseHead, ResponseHead]:
    """The head where nothing is due but that the secrets of `scrub` must not come back: with its body as it is, and
    with one that is looked through."""
    reason = scrub.clean(head.reason.encode("latin-1")).decode("latin-1")
    clean = replace(head, reason=reason, fields=_end_to_end(scrub.in_fields(head.fields)))
    return clean, replace(clean, fields=clean.fields.without(_OF_THE_BYTES), framing=Chunked())


def scrubbed_plan(heads: tuple[ResponseHead, ResponseHead], method: str, scrub: Scrub, limit: int) -> Plan:
    """The plan where nothing is due but that, for one of `shown_heads`. Raises CannotMask."""
    head, shown = heads
    if not scrub or _empty(head, method) or head.status == _SWITCHING_PROTOCOLS:
        return Plan(head)
    if head.status == _PARTIAL_CONTENT:
        raise CannotMask("a part of a body cannot be searched for the credential")
    held, coded = _small(head), codings(head.fields)
    if held and not coded and isinstance(head.framing, Length) and head.framing.size <= min(AT_ONCE, limit):
        return Plan(shown, Searched(scrub))
    return Plan(shown, Rewritten(Decoder(coded, limit, total=held), Plain(), scrub.stream(), held=held))


def _body(media: MediaType, duties: Duties, rewriter: Rewriter, redactor: Redactor | None, limit: int) -> Body:
    match media.kind:
        case Kind.JSON:
            return Whole(rewriter)
        case Kind.LINES:
            return Lines(rewriter, limit)
        case Kind.SEQUENCE:
            return Sequence(rewriter, limit)
        case Kind.EVENTS:
            whole = bool(duties.masks or duties.rows)
            return Events(rewriter, redactor, limit, json_only=whole, masked=bool(duties.masks))
        case Kind.TEXT if redactor is not None and not duties.masks and not duties.rows:
            return RedactedText(redactor)
        case Kind.TEXT | Kind.OTHER:
            raise CannotMask(f"a response of the type {media.essence or 'that it does not say'} cannot be masked")
        case never:
            assert_never(never)


def _aliases(media: MediaType, graphql: GraphQL | None, duties: Duties) -> Mapping[str, str] | None:
    known = None if graphql is None else graphql.aliases
    if duties.masks and known is None and (graphql is not None or media.graphql):
        raise CannotMask("a GraphQL result of which the request is not known cannot be masked")
    return known


def _type_if_told(fields: Fields) -> MediaType | None:
    try:
        return media_type(fields)
    except CannotMask:
        return None


def _empty(head: ResponseHead, method: str) -> bool:
    if method == "HEAD" or head.interim or head.status in _WITHOUT_BODY:
        return True
    return isinstance(head.framing, NoBody) or head.framing == Length(0)


def _small(head: ResponseHead) -> bool:
    return isinstance(head.framing, Length) and head.framing.size <= _SMALL


def _phrase(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return ""


def _end_to_end(fields: Fields) -> Fields:
    return fields.without((*_HOP_BY_HOP, *fields.tokens("Connection")))


def _rewritten_fields(fields: Fields, duties: Duties, redactor: Redactor | None, media: MediaType | None) -> Fields:
    """The fields that are still true, and under a mask only those that carry no value of the target's."""
    kept: list[Field] = []
    for name, value in fields.without((*_OF_THE_BYTES, *_VALIDATORS)):
        folded = name.lower()
        if folded == "content-type" and duties.masks:
            if media is not None:
                kept.append((name, media.shown))
            continue
        if duties.masks and not is_shown(name, value):
            continue
        kept.append((name, _redacted(value, redactor)))
    return Fields(tuple(kept))


_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def _redacted(value: str, redactor: Redactor | None) -> str:
    """A field's value, which is text like any other. It is Latin-1 of bytes that may be UTF-8."""
    if redactor is None:
        return value
    raw = value.encode("latin-1")
    try:
        return redactor.text(raw.decode()).encode().decode("latin-1")
    except UnicodeDecodeError:
        return _CONTROL.sub("", redactor.text(value).encode("latin-1", "replace").decode("latin-1"))
