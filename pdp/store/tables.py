"""The tables, as this version reads and writes them; `migrations` makes them, and a test holds the two together."""

from __future__ import annotations

import datetime
from typing import Any, Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND: Final = datetime.timedelta(microseconds=1)


class Instant(TypeDecorator[datetime.datetime]):
    """An instant as microseconds since 1970: exact, comparable in SQL, and without a zone to lose."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime.datetime | None, dialect: Any) -> int | None:  # noqa: ARG002
        return None if value is None else (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: int | None, dialect: Any) -> datetime.datetime | None:  # noqa: ARG002
        return None if value is None else _EPOCH + value * _MICROSECOND


# The name of a chain. Compared by bytes in every database, so that one prefix is one range.
_CHAIN: Final = String(255).with_variant(String(255, collation="C"), "postgresql")

metadata = MetaData()

keys = Table(
    "keys",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("purpose", String(32), nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("public", LargeBinary, nullable=False),
    # Empty: it is kept elsewhere, or signs no more.
    Column("private", LargeBinary, nullable=False),
)

sessions = Table(
    "sessions",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("proxy", String(255), nullable=False),
    Column("resource", String(255), nullable=False),
    Column("protocol", String(32), nullable=False),
    Column("client_address", String(255), nullable=False),
    Column("labels", JSON, nullable=False),
    Column("supported", JSON, nullable=False),
    Column("subject", JSON, nullable=False),
    Column("run", String(255), nullable=False),
    Column("credential_expires_at", Instant),
    # Whoever stands at the end of the chain, in the form in which two spellings of one id are equal.
    Column("root", String(600), nullable=False),
    Column("opened_at", Instant, nullable=False),
    # When its proxy last said that it lives.
    Column("kept_at", Instant, nullable=False),
    Column("closed_at", Instant),
    Column("state", String(16), nullable=False),
    Column("close_reason", String(500), nullable=False),
    Column("last_seq", BigInteger),
    Column("verdicts", JSON, nullable=False),
    # The decision that let it open, and the policies that decided: its record has to begin with them.
    Column("decision_id", String(64), nullable=False),
    Column("policy_revision", String(255), nullable=False),
    # What opened it, named without telling it (`Authenticated.credential`).
    Column("credential", String(600), nullable=False),
    Index("sessions_by_time", "opened_at"),
    Index("sessions_by_run", "run", "opened_at"),
    Index("sessions_by_state", "state", "root"),
    Index("sessions_by_end", "closed_at"),
)

approvals = Table(
    "approvals",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("idempotency_key", String(255), nullable=False),
    Column("session_id", String(64), ForeignKey("sessions.id"), nullable=False),
    Column("decision_id", String(64), nullable=False),
    Column("resource", String(255), nullable=False),
    Column("subject", JSON, nullable=False),
    # Who may use it: the subject, the one behind it, the thread and the run of its workflow, as one text.
    Column("holder", String(2000), nullable=False),
    Column("root", String(600), nullable=False),
    Column("action", LargeBinary, nullable=False),
    Column("action_digest", LargeBinary, nullable=False),
    Column("requirements", JSON, nullable=False),
    Column("state", String(16), nullable=False),
    Column("in_transaction", Boolean, nullable=False),
    # The client was told to come back for it: it outlives the session, and only this one action is it good for.
    Column("detached", Boolean, nullable=False),
    # Equal for questions of one run that differ in values alone: people see them as one.
    Column("fold", String(64), nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("grant_expires_at", Instant),
    Column("uses_left", Integer, nullable=False),
    # What the target's planner expects: {"rows": n} or {"unavailable": why}; null where nobody asked it.
    Column("estimate", JSON(none_as_null=True)),
    # The most rows that it may change, by policy and by who agreed so far; null where nobody limits them.
    Column("max_rows", BigInteger),
    Column("comment", String(1000), nullable=False),
    UniqueConstraint("session_id", "idempotency_key", name="approvals_once"),
    Index("approvals_by_state", "state"),
    Index("approvals_by_holder", "holder", "action_digest"),
    Index("approvals_by_fold", "fold", "state"),
)

assents = Table(
    "assents",
    metadata,
    Column("approval_id", String(64), ForeignKey("approvals.id"), primary_key=True),
    # The person, in the form in which two spellings of one id are equal.
    Column("person", String(600), primary_key=True),
    Column("subject_id", String(255), nullable=False),
    # Every name of the person that was known then, in the same form.
    Column("names", JSON, nullable=False),
    Column("groups", JSON, nullable=False),
    Column("at", Instant, nullable=False),
    # Positions of the requirements that the yes counts for.
    Column("counts_for", JSON, nullable=False),
    # The most rows that the person agreed to; null where they named no number.
    Column("max_rows", BigInteger),
)

redemptions = Table(
    "redemptions",
    metadata,
    Column("approval_id", String(64), ForeignKey("approvals.id"), primary_key=True),
    Column("execution_id", String(255), primary_key=True),
    Column("decision", LargeBinary, nullable=False),
    Column("at", Instant, nullable=False),
)

notifications = Table(
    "notifications",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("approval_id", String(64), ForeignKey("approvals.id"), nullable=False),
    # The name of pdp.approvals.notify that it goes to.
    Column("destination", String(63), nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_at", Instant, nullable=False),
    Column("last_error", String(500), nullable=False),
    Index("notifications_by_state", "state", "next_at"),
    Index("notifications_by_approval", "approval_id"),
)

records = Table(
    "records",
    metadata,
    # Not a foreign key: a proxy's own chain belongs to no session.
    Column("session_id", _CHAIN, primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("event", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
)

bodies = Table(
    "bodies",
    metadata,
    Column("session_id", _CHAIN, primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("index", Integer, primary_key=True),
    # When it came. Unset: it was erased, and salt and content are empty.
    Column("at", Instant),
    Column("salt", LargeBinary, nullable=False),
    Column("content", LargeBinary, nullable=False),
    # Whether the content is a zstandard frame of the body.
    Column("packed", Boolean, nullable=False),
    Index("bodies_by_time", "at"),
)

# Which fields responses held, and how they were classified then. An index of `records`, never evidence.
shown_fields = Table(
    "shown_fields",
    metadata,
    Column("session_id", _CHAIN, primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    # Its place among the fields of the response.
    Column("number", Integer, primary_key=True),
    # By the proxy's clock.
    Column("at", Instant, nullable=False),
    Column("dataset", String(500), nullable=False),
    Column("field", String(500), nullable=False),
    # Both as people write them (`disclosures.name_of`).
    Column("name", String(1001), nullable=False),
    Column("masked", Boolean, nullable=False),
    Column("labels", JSON, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("decision_id", String(64), nullable=False),
    Index("shown_fields_by_name", "name", "at"),
)

shown_labels = Table(
    "shown_labels",
    metadata,
    Column("session_id", _CHAIN, primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("label", String(255), primary_key=True),
    Column("at", Instant, nullable=False),
    Index("shown_labels_by_label", "label", "at"),
)

decisions = Table(
    "decisions",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("at", Instant, nullable=False),
    # Not a foreign key: a session that was refused was never stored.
    Column("session_id", String(255), nullable=False),
    Column("subject", String(600), nullable=False),
    Column("resource", String(255), nullable=False),
    Column("action", String(255), nullable=False),
    Column("verdict", String(32), nullable=False),
    # Policies that gave a reason, each between bars.
    Column("policies", Text, nullable=False),
    Column("revision", String(128), nullable=False),
    Column("answer", LargeBinary, nullable=False),
    # Whether OPA answered; otherwise the service did in its place.
    Column("evaluated", Boolean, nullable=False),
    Column("input_salt", LargeBinary, nullable=False),
    Column("input_digest", LargeBinary, nullable=False),
    Index("decisions_by_time", "at"),
    Index("decisions_by_session", "session_id"),
    Index("decisions_by_revision", "revision"),
)

# What was asked: apart, because it is erased earlier.
decision_inputs = Table(
    "decision_inputs",
    metadata,
    Column("decision_id", String(64), primary_key=True),
    Column("at", Instant, nullable=False),
    Column("content", LargeBinary, nullable=False),
    Index("decision_inputs_by_time", "at"),
)

policy_bundles = Table(
    "policy_bundles",
    metadata,
    Column("revision", String(128), primary_key=True),
    Column("version", String(255), nullable=False),
    Column("content", LargeBinary, nullable=False),
    Column("kept_at", Instant, nullable=False),
)

policy_history = Table(
    "policy_history",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", Instant, nullable=False),
    Column("event", String(32), nullable=False),
    Column("revision", String(128), nullable=False),
    Column("by", String(600), nullable=False),
    Column("changes", JSON, nullable=False),
    Column("problems", Text, nullable=False),
)

# At most one row: the revision that people went back to.
policy_pin = Table(
    "policy_pin",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("revision", String(128), nullable=False),
    # The digest of the policy files at that moment: others end it.
    Column("files", String(128), nullable=False),
    Column("by", String(600), nullable=False),
    Column("at", Instant, nullable=False),
)

# How far each chain is stored, and how far it is under a signed checkpoint. An index of `records`, never evidence.
chains = Table(
    "chains",
    metadata,
    Column("session_id", String(255), primary_key=True),
    # The proxy's name; empty for the service's own chains.
    Column("proxy", String(255), nullable=False),
    Column("last_seq", BigInteger, nullable=False),
    # Whether its last event is one that ends a chain.
    Column("ended", Boolean, nullable=False),
    # For a session's: the chain of the process that began it, and as its which.
    Column("begun_by", String(255), nullable=False),
    Column("begun_as", BigInteger, nullable=False),
    # Whether there is something that no checkpoint covers.
    Column("behind", Boolean, nullable=False),
    Column("checked_seq", BigInteger, nullable=False),
    Column("checked_at", Instant),
    Index("chains_by_behind", "behind"),
    Index("chains_by_process", "begun_by", "begun_as"),
)

# A log of signed checkpoints, each naming the digest of the one before. The number is the compare-and-set: of two
# replicas that write the same one, one is refused.
checkpoints = Table(
    "checkpoints",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("session_id", String(255), nullable=False),
    Column("document", LargeBinary, nullable=False),
    Column("signature", LargeBinary, nullable=False),
    Index("checkpoints_by_session", "session_id", "number"),
)

# What proxies signed of their chains, and the certificates of the keys that did.
proxy_signatures = Table(
    "proxy_signatures",
    metadata,
    Column("session_id", String(255), primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("fingerprint", String(64), nullable=False),
    Column("signature", LargeBinary, nullable=False),
)

proxy_certificates = Table(
    "proxy_certificates",
    metadata,
    Column("fingerprint", String(64), primary_key=True),
    # PEM: the proxy's own certificate, then those between it and the authority.
    Column("chain", LargeBinary, nullable=False),
)

# Up to when everything that a process of a proxy recorded is here.
proxy_marks = Table(
    "proxy_marks",
    metadata,
    Column("process", String(255), primary_key=True),
    Column("proxy", String(255), nullable=False),
    Column("complete_until", Instant, nullable=False),
    Column("sessions", BigInteger, nullable=False),
    Column("refused", BigInteger, nullable=False),
    Column("at", Instant, nullable=False),
)

# How far the log of checkpoints has been brought to each place outside.
anchors = Table(
    "anchors",
    metadata,
    Column("sink", String(64), primary_key=True),
    Column("number", BigInteger, nullable=False),
)

# Who and what is let in no more. A name stands in the form that is compared, beside the way it was spelt.
revocations = Table(
    "revocations",
    metadata,
    Column("kind", String(16), primary_key=True),
    Column("name", String(600), primary_key=True),
    Column("spelt", String(600), nullable=False),
    Column("reason", String(500), nullable=False),
    Column("revoked_by", String(600), nullable=False),
    Column("revoked_at", Instant, nullable=False),
    # Unset: until it is taken back.
    Column("until", Instant),
)

# Tokens that were good for one use, until they have run out.
used_tokens = Table(
    "used_tokens",
    metadata,
    Column("issuer", String(255), primary_key=True),
    Column("token_id", String(255), primary_key=True),
    # Which call used it: the same call again, because its answer was lost, is the same use.
    Column("used_by", String(600), nullable=False),
    Column("until", Instant, nullable=False),
    Index("used_tokens_by_end", "until"),
)
