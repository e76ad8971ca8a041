"""What the proxy counts, as whoever asks for its metrics reads it."""

from prometheus_client import generate_latest

from pep.core.meters import Meters
from pep.core.records import Event, EventType


def test_what_goes_on_record_is_counted_and_timed():
    meters = Meters(proxy="p", resource="r", protocol="toy", version="1")
    read = meters.registry.get_sample_value
    assert read("checkrein_proxy_unrecorded_total") == 0
    reasons = [{"policy": "no_ddl"}, {"policy": "no_ddl"}, {"policy": ""}]
    meters.recorded([Event(EventType.DECISION, facts={"verdict": "deny", "reasons": reasons})])
    meters.recorded([Event(EventType.RESPONSE, facts={"withheld": "no"}), Event(EventType.RESPONSE)])
    meters.unrecorded("full")
    meters.unavailable("decide")
    assert read("checkrein_proxy_verdicts_total", {"verdict": "deny", "policy": "no_ddl"}) == 1
    assert read("checkrein_proxy_records_total", {"type": "response"}) == 2
    assert read("checkrein_proxy_responses_withheld_total") == 1
    assert read("checkrein_proxy_unrecorded_total") == 1
    assert read("checkrein_proxy_unavailable_total", {"stage": "decide"}) == 1


def test_times_fall_into_the_buckets_that_end_with_them():
    meters = Meters(proxy="p", resource="r", protocol="toy", version="1")
    for seconds in (0.0004, 0.0005, 0.003, 9.0):
        meters.took("record", seconds)
    with meters.timed("open"):
        pass

    def bucket(bound: str) -> float | None:
        name = "checkrein_proxy_stage_seconds_bucket"
        return meters.registry.get_sample_value(name, {"stage": "record", "le": bound})

    assert [bucket(each) for each in ("0.0005", "0.001", "0.005", "5.0", "+Inf")] == [2, 2, 3, 3, 4]
    assert meters.registry.get_sample_value("checkrein_proxy_stage_seconds_sum", {"stage": "record"}) == 9.0039
    assert b'checkrein_proxy_stage_seconds_count{stage="open"} 1.0' in generate_latest(meters.registry)
