"""The first shape of the store."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


_CHAIN = sa.String(255).with_variant(sa.String(255, collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "keys",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("purpose", sa.String(32), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("public", sa.LargeBinary, nullable=False),
        sa.Column("private", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "sessions",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("proxy", sa.String(255), nullable=False),
        sa.Column("resource", sa.String(255), nullable=False),
        sa.Column("protocol", sa.String(32), nullable=False),
        sa.Column("client_address", sa.String(255), nullable=False),
        sa.Column("labels", sa.JSON, nullable=False),
        sa.Column("supported", sa.JSON, nullable=False),
        sa.Column("subject", sa.JSON, nullable=False),
        sa.Column("run", sa.String(255), nullable=False),
        sa.Column("credential_expires_at", sa.BigInteger),
        sa.Column("root", sa.String(600), nullable=False),
        sa.Column("opened_at", sa.BigInteger, nullable=False),
        sa.Column("kept_at", sa.BigInteger, nullable=False),
        sa.Column("closed_at", sa.BigInteger),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("close_reason", sa.String(500), nullable=False),
        sa.Column("last_seq", sa.BigInteger),
        sa.Column("verdicts", sa.JSON, nullable=False),
        sa.Column("decision_id", sa.String(64), nullable=False),
        sa.Column("policy_revision", sa.String(255), nullable=False),
        sa.Column("credential", sa.String(600), nullable=False),
    )
    op.create_index("sessions_by_time", "sessions", ["opened_at"])
    op.create_index("sessions_by_run", "sessions", ["run", "opened_at"])
    op.create_index("sessions_by_state", "sessions", ["state", "root"])
    op.create_index("sessions_by_end", "sessions", ["closed_at"])
    op.create_table(
        "approvals",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("idempotency_key", sa.String(255), nullable=False),
        sa.Column("session_id", sa.String(64), sa.ForeignKey("sessions.id"), nullable=False),
        sa.Column("decision_id", sa.String(64), nullable=False),
        sa.Column("resource", sa.String(255), nullable=False),
        sa.Column("subject", sa.JSON, nullable=False),
        sa.Column("holder", sa.String(2000), nullable=False),
        sa.Column("root", sa.String(600), nullable=False),
        sa.Column("action", sa.LargeBinary, nullable=False),
        sa.Column("action_digest", sa.LargeBinary, nullable=False),
        sa.Column("requirements", sa.JSON, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("in_transaction", sa.Boolean, nullable=False),
        sa.Column("detached", sa.Boolean, nullable=False),
        sa.Column("fold", sa.String(64), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("grant_expires_at", sa.BigInteger),
        sa.Column("uses_left", sa.Integer, nullable=False),
        sa.Column("estimate", sa.JSON),
        sa.Column("max_rows", sa.BigInteger),
        sa.Column("comment", sa.String(1000), nullable=False),
        sa.UniqueConstraint("session_id", "idempotency_key", name="approvals_once"),
    )
    op.create_index("approvals_by_state", "approvals", ["state"])
    op.create_index("approvals_by_holder", "approvals", ["holder", "action_digest"])
    op.create_index("approvals_by_fold", "approvals", ["fold", "state"])
    op.create_table(
        "assents",
        sa.Column("approval_id", sa.String(64), sa.ForeignKey("approvals.id"), primary_key=True),
        sa.Column("person", sa.String(600), primary_key=True),
        sa.Column("subject_id", sa.String(255), nullable=False),
        sa.Column("names", sa.JSON, nullable=False),
        sa.Column("groups", sa.JSON, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("counts_for", sa.JSON, nullable=False),
        sa.Column("max_rows", sa.BigInteger),
    )
    op.create_table(
        "redemptions",
        sa.Column("approval_id", sa.String(64), sa.ForeignKey("approvals.id"), primary_key=True),
        sa.Column("execution_id", sa.String(255), primary_key=True),
        sa.Column("decision", sa.LargeBinary, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "notifications",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("approval_id", sa.String(64), sa.ForeignKey("approvals.id"), nullable=False),
        sa.Column("destination", sa.String(63), nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("next_at", sa.BigInteger, nullable=False),
        sa.Column("last_error", sa.String(500), nullable=False),
    )
    op.create_index("notifications_by_state", "notifications", ["state", "next_at"])
    op.create_index("notifications_by_approval", "notifications", ["approval_id"])
    op.create_table(
        "records",
        sa.Column("session_id", _CHAIN, primary_key=True),
        sa.Column("seq", sa.BigInteger, primary_key=True),
        sa.Column("event", sa.LargeBinary, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "bodies",
        sa.Column("session_id", _CHAIN, primary_key=True),
        sa.Column("seq", sa.BigInteger, primary_key=True),
        sa.Column("index", sa.Integer, primary_key=True),
        sa.Column("at", sa.BigInteger),
        sa.Column("salt", sa.LargeBinary, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.Column("packed", sa.Boolean, nullable=False),
    )
    op.create_index("bodies_by_time", "bodies", ["at"])
    _doors()
    _decisions()
    _checkpoints()


def _decisions() -> None:
    op.create_table(
        "shown_fields",
        sa.Column("session_id", _CHAIN, primary_key=True),
        sa.Column("seq", sa.BigInteger, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("dataset", sa.String(500), nullable=False),
        sa.Column("field", sa.String(500), nullable=False),
        sa.Column("name", sa.String(1001), nullable=False),
        sa.Column("masked", sa.Boolean, nullable=False),
        sa.Column("labels", sa.JSON, nullable=False),
        sa.Column("rows", sa.BigInteger, nullable=False),
        sa.Column("decision_id", sa.String(64), nullable=False),
    )
    op.create_index("shown_fields_by_name", "shown_fields", ["name", "at"])
    op.create_table(
        "shown_labels",
        sa.Column("session_id", _CHAIN, primary_key=True),
        sa.Column("seq", sa.BigInteger, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("label", sa.String(255), primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
    op.create_index("shown_labels_by_label", "shown_labels", ["label", "at"])
    op.create_table(
        "decisions",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("session_id", sa.String(255), nullable=False),
        sa.Column("subject", sa.String(600), nullable=False),
        sa.Column("resource", sa.String(255), nullable=False),
        sa.Column("action", sa.String(255), nullable=False),
        sa.Column("verdict", sa.String(32), nullable=False),
        sa.Column("policies", sa.Text, nullable=False),
        sa.Column("revision", sa.String(128), nullable=False),
        sa.Column("answer", sa.LargeBinary, nullable=False),
        sa.Column("evaluated", sa.Boolean, nullable=False),
        sa.Column("input_salt", sa.LargeBinary, nullable=False),
        sa.Column("input_digest", sa.LargeBinary, nullable=False),
    )
    op.create_index("decisions_by_time", "decisions", ["at"])
    op.create_index("decisions_by_session", "decisions", ["session_id"])
    op.create_index("decisions_by_revision", "decisions", ["revision"])
    op.create_table(
        "decision_inputs",
        sa.Column("decision_id", sa.String(64), primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
    )
    op.create_index("decision_inputs_by_time", "decision_inputs", ["at"])
    op.create_table(
        "policy_bundles",
        sa.Column("revision", sa.String(128), primary_key=True),
        sa.Column("version", sa.String(255), nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.Column("kept_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "policy_history",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("event", sa.String(32), nullable=False),
        sa.Column("revision", sa.String(128), nullable=False),
        sa.Column("by", sa.String(600), nullable=False),
        sa.Column("changes", sa.JSON, nullable=False),
        sa.Column("problems", sa.Text, nullable=False),
    )
    op.create_table(
        "policy_pin",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("revision", sa.String(128), nullable=False),
        sa.Column("files", sa.String(128), nullable=False),
        sa.Column("by", sa.String(600), nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
    )


def _checkpoints() -> None:
    op.create_table(
        "chains",
        sa.Column("session_id", sa.String(255), primary_key=True),
        sa.Column("proxy", sa.String(255), nullable=False),
        sa.Column("last_seq", sa.BigInteger, nullable=False),
        sa.Column("ended", sa.Boolean, nullable=False),
        sa.Column("begun_by", sa.String(255), nullable=False),
        sa.Column("begun_as", sa.BigInteger, nullable=False),
        sa.Column("behind", sa.Boolean, nullable=False),
        sa.Column("checked_seq", sa.BigInteger, nullable=False),
        sa.Column("checked_at", sa.BigInteger),
    )
    op.create_index("chains_by_behind", "chains", ["behind"])
    op.create_index("chains_by_process", "chains", ["begun_by", "begun_as"])
    op.create_table(
        "checkpoints",
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("session_id", sa.String(255), nullable=False),
        sa.Column("document", sa.LargeBinary, nullable=False),
        sa.Column("signature", sa.LargeBinary, nullable=False),
    )
    op.create_index("checkpoints_by_session", "checkpoints", ["session_id", "number"])
    op.create_table(
        "proxy_signatures",
        sa.Column("session_id", sa.String(255), primary_key=True),
        sa.Column("seq", sa.BigInteger, primary_key=True),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("signature", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "proxy_certificates",
        sa.Column("fingerprint", sa.String(64), primary_key=True),
        sa.Column("chain", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "proxy_marks",
        sa.Column("process", sa.String(255), primary_key=True),
        sa.Column("proxy", sa.String(255), nullable=False),
        sa.Column("complete_until", sa.BigInteger, nullable=False),
        sa.Column("sessions", sa.BigInteger, nullable=False),
        sa.Column("refused", sa.BigInteger, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "anchors",
        sa.Column("sink", sa.String(64), primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False),
    )


def _doors() -> None:
    op.create_table(
        "revocations",
        sa.Column("kind", sa.String(16), primary_key=True),
        sa.Column("name", sa.String(600), primary_key=True),
        sa.Column("spelt", sa.String(600), nullable=False),
        sa.Column("reason", sa.String(500), nullable=False),
        sa.Column("revoked_by", sa.String(600), nullable=False),
        sa.Column("revoked_at", sa.BigInteger, nullable=False),
        sa.Column("until", sa.BigInteger),
    )
    op.create_table(
        "used_tokens",
        sa.Column("issuer", sa.String(255), primary_key=True),
        sa.Column("token_id", sa.String(255), primary_key=True),
        sa.Column("used_by", sa.String(600), nullable=False),
        sa.Column("until", sa.BigInteger, nullable=False),
    )
    op.create_index("used_tokens_by_end", "used_tokens", ["until"])
