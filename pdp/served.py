"""What the service answers to: its gRPC services, put together from its parts, and how each of them stands.

It knows which part a service needs and decides nothing itself; the parts are made in `parts`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2

from pdp.audit.trust import Authorities
from pdp.certificates import Certificate
from pdp.config import Config, Service
from pdp.decisions.explain import Explainer
from pdp.identity.authenticator import Authenticator
from pdp.identity.tokens import Clock, OwnIssuer, open_issuer
from pdp.opa.engine import PolicyEngine
from pdp.parts import Parts
from pdp.service.admin_service import AdminService
from pdp.service.approval_admin_service import ApprovalAdminService
from pdp.service.approval_service import ApprovalService
from pdp.service.archive_service import ArchiveService
from pdp.service.audit_service import AuditService
from pdp.service.decision_service import DecisionService
from pdp.service.disclosure_service import DisclosureService
from pdp.service.peers import Peers
from pdp.service.people import People
from pdp.service.policy_service import PolicyService
from pdp.service.rates import Rates
from pdp.service.records_service import RecordsService
from pdp.service.revocation_service import RevocationService
from pdp.store.database import Database
from pdp.v1 import (
    admin_service_pb2_grpc,
    approval_admin_service_pb2_grpc,
    approval_service_pb2_grpc,
    archive_service_pb2_grpc,
    audit_service_pb2_grpc,
    decision_service_pb2_grpc,
    disclosure_service_pb2_grpc,
    policy_service_pb2_grpc,
    records_service_pb2_grpc,
    revocation_service_pb2_grpc,
)

SERVICES: Final = (
    "",
    "pdp.v1.DecisionService",
    "pdp.v1.ApprovalService",
    "pdp.v1.AuditService",
    "pdp.v1.AdminService",
    "pdp.v1.RevocationService",
    "pdp.v1.ApprovalAdminService",
    "pdp.v1.PolicyService",
    "pdp.v1.RecordsService",
    "pdp.v1.ArchiveService",
    "pdp.v1.DisclosureService",
)
_HEALTH: Final = 0.25
# A body of a record, with room for what is around it; what other calls carry is bounded where they are handled.
_LARGEST_MESSAGE: Final = 65 << 20
OPTIONS: Final = (
    ("grpc.max_receive_message_length", _LARGEST_MESSAGE),
    ("grpc.max_send_message_length", -1),
    # Proxies ping every 5 seconds, with or without a call; the default takes that for abuse.
    ("grpc.http2.min_ping_interval_without_data_ms", 1000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.keepalive_time_ms", 5000),
    ("grpc.keepalive_timeout_ms", 2000),
    # Two services on one port would share the proxies between them.
    ("grpc.so_reuseport", 0),
)


@dataclass(frozen=True, slots=True)
class _Callers:
    """By what the services know who calls: proxies by their certificates, people by the tokens that they show."""

    peers: Peers
    authorities: Authorities
    issuer: OwnIssuer | None
    authenticator: Authenticator
    people: People


def add_services(server: grpc.aio.Server, config: Config, certificate: Certificate, parts: Parts, now: Clock) -> None:
    """Every service but the one for health."""
    peers = Peers(config.grants, authority=certificate.authority, now=now, why_not=parts.doors.why)
    issuer = open_issuer(config, now)
    authenticator = Authenticator(config.pdp.identity, issuer, now, parts.doors)
    people = People(authenticator, parts.decider)
    callers = _Callers(peers, Authorities(certificate.authority), issuer, authenticator, people)
    _add_for_proxies(server, config.pdp, callers, parts, now)
    _add_for_operators(server, config, callers, parts, now)
    _add_for_auditors(server, callers, parts, now)


def _judging(parts: Parts) -> dict[str, Any]:
    """What every service needs that decides about a session."""
    return {"sessions": parts.sessions, "decider": parts.decider, "engine": parts.engine}


def _add_for_proxies(server: grpc.aio.Server, settings: Service, callers: _Callers, parts: Parts, now: Clock) -> None:
    decisions = DecisionService(
        peers=callers.peers,
        authenticator=callers.authenticator,
        watchers=parts.watchers,
        rates=Rates(settings.limits.decisions_per_second_per_subject),
        database=parts.database,
        now=now,
        **_judging(parts),
    )
    decision_service_pb2_grpc.add_DecisionServiceServicer_to_server(decisions, server)
    approvals = ApprovalService(
        peers=callers.peers, approvals=parts.approvals, settings=settings.approvals, now=now, **_judging(parts)
    )
    approval_service_pb2_grpc.add_ApprovalServiceServicer_to_server(approvals, server)
    audit = AuditService(
        peers=callers.peers, database=parts.database, authorities=callers.authorities, now=now, meters=parts.meters
    )
    audit_service_pb2_grpc.add_AuditServiceServicer_to_server(audit, server)


def _add_for_operators(server: grpc.aio.Server, config: Config, callers: _Callers, parts: Parts, now: Clock) -> None:
    """Sessions, approvals, policies, and what is revoked."""
    admin = AdminService(
        people=callers.people,
        issuer=callers.issuer,
        approvals=parts.approvals,
        watchers=parts.watchers,
        database=parts.database,
        chain=parts.chain,
        notes=parts.decisions.notes,
        **_judging(parts),
    )
    admin_service_pb2_grpc.add_AdminServiceServicer_to_server(admin, server)
    revocations = RevocationService(
        people=callers.people,
        doors=parts.doors,
        cutter=parts.cutter,
        tokens=parts.tokens,
        checkpoint_keys=parts.notary.keys,
        chain=parts.chain,
        database=parts.database,
        now=now,
    )
    revocation_service_pb2_grpc.add_RevocationServiceServicer_to_server(revocations, server)
    approvals = ApprovalAdminService(
        people=callers.people, approvals=parts.approvals, notifications=parts.notifications, database=parts.database
    )
    approval_admin_service_pb2_grpc.add_ApprovalAdminServiceServicer_to_server(approvals, server)
    policies = PolicyService(
        people=callers.people,
        engine=parts.engine,
        history=parts.history,
        decisions=parts.decisions,
        explainer=Explainer(parts.engine.opa, config.state / "opa"),
        chain=parts.chain,
        database=parts.database,
    )
    policy_service_pb2_grpc.add_PolicyServiceServicer_to_server(policies, server)


def _add_for_auditors(server: grpc.aio.Server, callers: _Callers, parts: Parts, now: Clock) -> None:
    """What is on record: that it is whole, its bodies and copies, and what was disclosed."""
    people, chain, database = callers.people, parts.chain, parts.database
    proofs = RecordsService(people=people, chain=chain, database=database, now=now)
    records_service_pb2_grpc.add_RecordsServiceServicer_to_server(proofs, server)
    archive = ArchiveService(people=people, chain=chain, database=database, sessions=parts.sessions, now=now)
    archive_service_pb2_grpc.add_ArchiveServiceServicer_to_server(archive, server)
    shown = DisclosureService(people=people, chain=chain, database=database)
    disclosure_service_pb2_grpc.add_DisclosureServiceServicer_to_server(shown, server)


async def report_health(engine: PolicyEngine, database: Database, checks: Any) -> None:
    """Says whether actions can be decided, as soon as that changes. Runs until it is cancelled."""
    serving = health_pb2.HealthCheckResponse.SERVING
    not_serving = health_pb2.HealthCheckResponse.NOT_SERVING
    last: int | None = None
    while True:
        now = serving if engine.ready and not database.problem else not_serving
        if now != last:
            last = now
            for service in SERVICES:
                await checks.set(service, now)
        await asyncio.sleep(_HEALTH)
