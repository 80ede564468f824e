#!/usr/bin/env python3
"""Random packets of each characteristic, decoded by tshark and by `kit-agent decode`: scripts/check_decoders.py KIT_AGENT

Needs tshark. Every field of every packet has to be the same, digits too (99.0 is not 99). Where tshark says less than the octets
do, which KNOWN lists, this script reads those octets itself: a third opinion, from the standard. Prints what was compared;
`--count 2000 --seed 1` are packets a characteristic, and where they come from.
"""

import argparse
import decimal
import json
import random
import struct
import subprocess
import sys
import tempfile

# What tshark 4.0 does not say, or says otherwise than the standard, with the standard's place; each is counted when it is met.
KNOWN = {
    "float": "FLOAT shows as 0, whatever it is (ISO/IEEE 11073-20601 F.6; 2A1C, 2A1E)",
    "zero": "an SFLOAT of 0.00 shows as 0: its digits are lost (ISO/IEEE 11073-20601 F.7)",
    "nibbles": "the nibbles of Tester-Health are swapped (GATT Specification Supplement: Tester is the first, as Type is in 2A18)",
    "undated": "without a time stamp what follows the user's number is left out (2A9C, 2A9D)",
}
DECODED_AT_ONCE = 500
# Octets of an ATT value over the default MTU of 23.
SHORT_VALUE_OCTETS = 20


class Octets:
    """The octets of one packet while they are made, with the raw number of each field whose digits tshark may lose."""

    def __init__(self, rng):
        self.rng, self.octets, self.raw = rng, b"", {}

    def put(self, layout, *values):
        self.octets += struct.pack("<" + layout, *values)

    def any(self, layout, name=None):
        size = struct.calcsize("<" + layout)
        self.octets += self.rng.randbytes(size)
        self.raw[name] = (int.from_bytes(self.octets[-size:], "little"), 0)

    def one_of(self, *values):
        value = self.rng.choice(values)
        self.put("B", value)
        return value

    def sfloat(self, name):
        kind = self.rng.random()
        if kind < 0.1:
            raw = self.rng.choice([0x07FF, 0x0800, 0x07FE, 0x0802, 0x0801])
        elif kind < 0.5:
            raw = self.rng.choice([0x0000, 0xF000, 0xE000]) | self.rng.randrange(0x0800)
        elif kind < 0.6:
            raw = self.rng.randrange(16) << 12
        else:
            raw = self.rng.randrange(0x10000)
        self.raw[name] = (raw, 12)
        self.put("H", raw)

    def float(self, name):
        kind = self.rng.random()
        if kind < 0.1:
            raw = self.rng.choice([0x7FFFFF, 0x800000, 0x7FFFFE, 0x800002, 0x800001])
        else:
            exponent = self.rng.choice([0, -1, -2, -3, 1, self.rng.randrange(-128, 128)])
            raw = (exponent & 0xFF) << 24 | self.rng.randrange(1 << 24)
        self.raw[name] = (raw, 24)
        self.put("I", raw)

    def date_time(self):
        day = self.rng.randrange
        year = self.rng.choice([0, 1582, 9999, self.rng.randrange(1970, 2100)])
        self.put("HBBBBB", year, day(13), day(32), day(24), day(60), day(60))

    def flags(self, number, bits, layout="B", reserved=0):
        """Every combination of the bits in turn; reserved ones now and then, which change nothing of a field that is there."""
        flags = number % (1 << bits)
        if self.rng.random() < 0.05:
            flags |= self.rng.randrange(256) << bits & reserved
        self.put(layout, flags)
        return flags


class Fields:
    """What tshark said of one packet: every value of every field by name."""

    def __init__(self, pairs, raw, counts):
        self.values, self.raw, self.counts = {}, raw, counts
        self.gather(pairs)

    def gather(self, pairs):
        for name, value in pairs:
            if isinstance(value, list):
                self.gather(value)
            else:
                self.values.setdefault(name.removeprefix("btatt."), []).append(value)

    def __contains__(self, name):
        return name in self.values

    def all(self, name):
        return [number(text) for text in self.values.get(name, [])]

    def number(self, name):
        return number(self.values[name][0]) if name in self.values else None

    def text(self, name):
        return self.values[name][0] if name in self.values else None

    def measured(self, name, ours, out):
        """An SFLOAT or FLOAT by its exact digits; a special value is null beside its reason."""
        self.digits(self.text(name), ours, out)

    def digits(self, text, ours, out):
        value, absent = (None, None) if text is None else special(text)
        if text == "0" and ours in self.raw:
            exact, absent = third_opinion(*self.raw[ours])
            if exact != "0" or absent:
                self.counts["float" if self.raw[ours][1] == 24 else "zero"] += 1
            value = None if absent else exact
        out[ours] = value
        if absent:
            out[ours + "_absent"] = absent

    def dated(self, name, ours):
        """A number that tshark shows where there is a time stamp."""
        if name in self.values or "year" in self.values or ours not in self.raw:
            return self.number(name)
        self.counts["undated"] += 1
        return self.raw[ours][0]

    def terms(self, name, terms, width):
        """The terms of the bits that are set, lowest first: by name where tshark names the bit, else by its place."""
        if name not in self.values:
            return None
        whole, said = self.number(name), []
        for bit in range(width):
            term = terms[bit] if bit < len(terms) else None
            if isinstance(term, tuple):
                field, ours = term
                if self.number(f"{name}.{field}"):
                    said.append(ours)
            elif whole >> bit & 1:
                said.append(term or f"reserved-{bit}")
        return said

    def date_time(self, at=0):
        year, month, day, hours, minutes, seconds = (
            self.all(part)[at] if len(self.all(part)) > at else None
            for part in ("year", "month", "day", "hours", "minutes", "seconds")
        )
        return None if year is None else f"{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}"


def number(text):
    return int(text, 16) if text.startswith("0x") else int(text)


# As data absent reasons of HL7, which is how kit-agent says them.
SPECIALS = {
    "NaN": "not-a-number",
    "NRes": "error",
    "+INFINITY": "positive-infinity",
    "-INFINITY": "negative-infinity",
    "RFU": "error",
}


def special(text):
    return (None, SPECIALS[text]) if text in SPECIALS else (text, None)


def third_opinion(raw, bits):
    """A FLOAT (24 bits of mantissa) or SFLOAT (12) by ISO/IEEE 11073-20601 F.6 and F.7, with all its digits."""
    mantissa, exponent = raw & (1 << bits) - 1, raw >> bits
    half, exponents = 1 << bits - 1, 8 if bits == 24 else 4
    if exponent == 0 and half - 2 <= mantissa <= half + 2:
        return None, ["positive-infinity", "not-a-number", "error", "error", "negative-infinity"][
            mantissa - half + 2
        ]
    mantissa -= (mantissa >= half) * 2 * half
    exponent -= (exponent >= 1 << exponents - 1) << exponents
    if mantissa == 0 and exponent >= 0:
        return "0", None
    if exponent >= 0:
        return str(mantissa) + "0" * exponent, None
    with decimal.localcontext(prec=200):
        return format(decimal.Decimal(mantissa).scaleb(exponent), "f"), None


def scaled(out, ours, raw, step):
    """So many steps of the finest resolution; 0xFFFF is a measurement that was unsuccessful."""
    out[ours] = None if raw is None else format(raw * decimal.Decimal(step), "f")
    if raw == 0xFFFF:
        out[ours], out[ours + "_absent"] = None, "not-available"


def term(terms, code):
    return None if code is None else terms.get(code, code)


def numbered(*terms, first=1):
    return dict(enumerate(terms, first))


# --- the characteristics: how a packet is made, and what tshark's fields are in ours ---

PRESSURE_STATUS = [
    ("body_movement", "body-movement"),
    ("cuff_fit_too_loose", "cuff-too-loose"),
    ("irregular_pulse", "irregular-pulse"),
    None,
    None,
    ("improper_measurement_position", "improper-measurement-position"),
]
PULSE_RANGE = {1: "pulse-rate-exceeds-upper-limit", 2: "pulse-rate-less-than-lower-limit"}


def make_pressure(o, n):
    flags = o.flags(n, 5)
    for name in ("systolic", "diastolic", "mean_arterial_pressure"):
        o.sfloat(name)
    if flags & 2:
        o.date_time()
    if flags & 4:
        o.sfloat("pulse_rate")
    if flags & 8:
        o.one_of(0, 1, 2, 254, 255)
    if flags & 16:
        o.put("H", o.rng.choice([o.rng.randrange(1 << 6), o.rng.randrange(1 << 16)]))


def pressure(t, cuff):
    out, p = {}, "blood_pressure_measurement."
    kilopascal = t.number(p + "flags.unit")
    unit = "kpa" if kilopascal else "mmhg"
    names = [("systolic", "systolic"), ("diastolic", "diastolic"), ("arterial_pressure", "mean_arterial_pressure")]
    for name, ours in names[:1] if cuff else names:
        t.measured(f"{p}compound_value.{name}.{unit}", ours, out)
    if cuff:
        t.raw["current_cuff_pressure"] = t.raw["systolic"]
        out.clear()
        t.measured(f"{p}compound_value.systolic.{unit}", "current_cuff_pressure", out)
    out["unit"] = "kPa" if kilopascal else "mm[Hg]"
    out["time_stamp"] = t.date_time()
    t.measured(p + "pulse_rate", "pulse_rate", out)
    user = t.number(p + "user_id")
    out["user_id"] = None if user == 255 else user
    out["measurement_status"] = pressure_status(t, p + "status")
    return out


def pressure_status(t, name):
    said = t.terms(name, PRESSURE_STATUS, 16)
    if said is None:
        return None
    ranged = t.number(name + ".pulse_rate_range_detection")
    said = [one for one in said if one not in ("reserved-3", "reserved-4")]
    if ranged == 3:
        # Both bits are one reserved value, which kit-agent says last.
        return said + ["pulse-rate-range-reserved"]
    order = ["body-movement", "cuff-too-loose", "irregular-pulse", PULSE_RANGE.get(ranged)]
    return sorted(said + ([PULSE_RANGE[ranged]] if ranged else []), key=lambda one: order.index(one) if one in order else 4)


def make_plx(o, slow_and_fast):
    def make(o, n):
        flags = o.flags(n, 5)
        o.sfloat("spo2"), o.sfloat("pulse_rate")
        if slow_and_fast:
            for bit, name in ((1, "fast"), (2, "slow")):
                if flags & bit:
                    o.sfloat(name + "_spo2"), o.sfloat(name + "_pulse_rate")
        elif flags & 1:
            o.date_time()
        if flags & (4 if slow_and_fast else 2):
            o.any("H")
        if flags & (8 if slow_and_fast else 4):
            o.any("3s")
        if flags & (16 if slow_and_fast else 8):
            o.sfloat("pulse_amplitude_index")

    return make


PLX_MEASUREMENT = [None] * 5 + [
    ("measurement_ongoing", "measurement-ongoing"),
    ("early_estimated_data", "early-estimated-data"),
    ("validated_data", "validated-data"),
    ("fully_qualified_data", "fully-qualified-data"),
    ("data_from_measurement_storage", "data-from-measurement-storage"),
    ("data_for_demonstration", "data-for-demonstration"),
    ("data_for_testing", "data-for-testing"),
    ("calibration_ongoing", "calibration-ongoing"),
    ("measurement_unavailable", "measurement-unavailable"),
    ("questionable_measurement_detected", "questionable-measurement-detected"),
    ("invalid_measurement_detected", "invalid-measurement-detected"),
]
PLX_SENSOR = [
    ("extended_display_update_ongoing", "extended-display-update-ongoing"),
    ("equipment_malfunction_detected", "equipment-malfunction-detected"),
    ("signal_processing_irregularity_detected", "signal-processing-irregularity-detected"),
    ("inadequate_signal_detected", "inadequate-signal-detected"),
    ("poor_signal_detected", "poor-signal-detected"),
    ("low_perfusion_detected", "low-perfusion-detected"),
    ("erratic_signal_detected", "erratic-signal-detected"),
    ("non_pulsatile_signal_detected", "nonpulsatile-signal-detected"),
    ("questionable_pulse_detected", "questionable-pulse-detected"),
    ("signal_analysis_ongoing", "signal-analysis-ongoing"),
    ("interference_detected", "sensor-interference-detected"),
    ("unconnected_to_user", "sensor-unconnected-to-user"),
    ("unknown_sensor_connected", "unknown-sensor-connected"),
    ("sensor_displaced", "sensor-displaced"),
    ("sensor_malfunctioning", "sensor-malfunctioning"),
    ("sensor_disconnected", "sensor-disconnected"),
]
SPOT = "plxs.spot_check_measurement."


def plx(t, continuous):
    out = {}
    names = t.values.get(SPOT + "spo2", []), t.values.get(SPOT + "pulse_rate", [])
    pairs = iter(zip(*names, strict=True))
    both = next(pairs)
    t.digits(both[0], "spo2", out), t.digits(both[1], "pulse_rate", out)
    if continuous:
        for name in ("fast", "slow"):
            out[f"spo2pr_{name}"] = None
            if t.number(f"plxs.continuous_measurement.flags.spo2pr_{name}"):
                both, said = next(pairs), {}
                for field, text in zip(("spo2", "pulse_rate"), both):
                    t.digits(text, f"{name}_{field}", said)
                out[f"spo2pr_{name}"] = {key.removeprefix(name + "_"): value for key, value in said.items()}
    else:
        out["time_stamp"] = t.date_time()
        out["device_clock_not_set"] = bool(t.number(SPOT + "flags.device_clock_is_not_set"))
    out["measurement_status"] = t.terms(SPOT + "measurement_status", PLX_MEASUREMENT, 16)
    out["device_and_sensor_status"] = t.terms(SPOT + "device_and_sensor_status", PLX_SENSOR, 24)
    t.measured(SPOT + "pulse_amplitude_index", "pulse_amplitude_index", out)
    return out


def make_plx_features(o, n):
    flags = o.flags(n, 8, "H", reserved=0xFF00)
    if flags & 1:
        o.any("H")
    if flags & 2:
        o.any("3s")


PLX_SUPPORTED = [
    ("measurement_status", "measurement-status-support-present"),
    ("device_and_sensor_status", "device-and-sensor-status-support-present"),
    ("measurement_storage_for_spot_check", "measurement-storage-for-spot-check-measurements-supported"),
    ("timestamp_storage_for_spot_check", "time-stamp-for-spot-check-measurements-supported"),
    ("spo2pr_fast", "spo2pr-fast-metric-supported"),
    ("spo2pr_slow", "spo2pr-slow-metric-supported"),
    ("pulse_amplitude_index", "pulse-amplitude-index-field-supported"),
    ("multiple_bonds", "multiple-bonds-supported"),
]


def plx_features(t):
    return {
        "supported_features": t.terms("plxs.features.supported_features", PLX_SUPPORTED, 16),
        "measurement_status_support": t.terms(SPOT + "measurement_status", PLX_MEASUREMENT, 16),
        "device_and_sensor_status_support": t.terms(SPOT + "device_and_sensor_status", PLX_SENSOR, 24),
    }


TEMPERATURE_TYPES = numbered(
    "armpit", "body", "ear", "finger", "gastro-intestinal-tract", "mouth", "rectum", "toe", "tympanum"
)


def make_temperature(o, n):
    flags = o.flags(n, 3, reserved=0xF8)
    o.float("temperature")
    if flags & 2:
        o.date_time()
    if flags & 4:
        o.one_of(*range(12), 255)


def temperature(t):
    out, p = {}, "temperature_measurement."
    fahrenheit = t.number(p + "flags.temperature_unit")
    t.measured(p + ("value.fahrenheit" if fahrenheit else "value.celsius"), "temperature", out)
    out["unit"] = "[degF]" if fahrenheit else "Cel"
    out["time_stamp"] = t.date_time()
    out["temperature_type"] = term(TEMPERATURE_TYPES, t.number("temperature_type"))
    return out


def make_heart_rate(o, n):
    flags = o.flags(n, 5)
    o.any("H" if flags & 1 else "B")
    if flags & 8:
        o.any("H")
    for _ in range(o.rng.randrange(1, 8) if flags & 16 else 0):
        o.any("H")


def heart_rate(t):
    p = "heart_rate_measurement."
    width = "16" if t.number(p + "flags.value_16") else "8"
    contact = None
    if t.number(p + "flags.sensor_contact_status.support"):
        there = t.number(p + "flags.sensor_contact_status.contact")
        contact = "sensor-contact-detected" if there else "sensor-contact-not-detected"
    return {
        "heart_rate": t.text(p + "value." + width),
        "sensor_contact": contact,
        "energy_expended": t.number(p + "energy_expended"),
        "rr_intervals": t.all(p + "rr_interval"),
    }


GLUCOSE_STATUS = [
    ("battery_low", "device-battery-low"),
    ("fault", "sensor-malfunction"),
    ("size_insufficient", "sample-size-insufficient"),
    ("strip_insertion_error", "strip-insertion-error"),
    ("strip_type_incorrect", "strip-type-incorrect"),
    ("result_too_high", "sensor-result-too-high"),
    ("result_too_lower", "sensor-result-too-low"),
    ("temperature_too_high", "sensor-temperature-too-high"),
    ("temperature_too_low", "sensor-temperature-too-low"),
    ("read_interrupted", "sensor-read-interrupted"),
    ("general_fault", "general-device-fault"),
    ("time_fault", "time-fault"),
]
SAMPLE_TYPES = numbered(
    "capillary-whole-blood",
    "capillary-plasma",
    "venous-whole-blood",
    "venous-plasma",
    "arterial-whole-blood",
    "arterial-plasma",
    "undetermined-whole-blood",
    "undetermined-plasma",
    "interstitial-fluid",
    "control-solution",
)
SAMPLE_LOCATIONS = numbered("finger", "alternate-site-test", "earlobe", "control-solution") | {15: "not-available"}


def make_glucose(o, n):
    flags = o.flags(n, 5)
    o.any("H")
    o.date_time()
    if flags & 1:
        o.any("H")
    if flags & 2:
        o.sfloat("glucose_concentration")
        o.any("B")
    if flags & 8:
        o.any("H")


def glucose(t):
    out, p = {}, "glucose_measurement."
    out["sequence_number"] = t.number(p + "sequence_number")
    out["base_time"] = t.date_time()
    out["time_offset"] = t.number(p + "time_offset")
    there = t.number(p + "flags.glucose_concentration_type_and_sample_location_present")
    moles = t.number(p + "flags.glucose_concentration_units")
    t.measured(p + "glucose_concentration." + ("mol_per_l" if moles else "kg_per_l"), "glucose_concentration", out)
    out["unit"] = ("mol/L" if moles else "kg/L") if there else None
    out["type"] = term(SAMPLE_TYPES, t.number(p + "type_and_sample_location.type"))
    out["sample_location"] = term(SAMPLE_LOCATIONS, t.number(p + "type_and_sample_location.sample_location"))
    out["sensor_status_annunciation"] = t.terms(p + "sensor_status_annunciation", GLUCOSE_STATUS, 16)
    out["context_information_follows"] = bool(t.number(p + "flags.context_information_follows"))
    return out


def make_context(o, n):
    flags = o.flags(n, 8)
    o.any("H")
    if flags & 128:
        o.any("B")
    if flags & 1:
        o.one_of(*range(10))
        o.sfloat("carbohydrate")
    if flags & 2:
        o.one_of(*range(8))
    if flags & 4:
        o.any("B")
    if flags & 8:
        o.any("H")
        o.one_of(*range(101))
    if flags & 16:
        o.one_of(*range(8))
        o.sfloat("medication")
    if flags & 64:
        o.sfloat("hba1c")


MEDICATIONS = numbered(
    "rapid-acting-insulin",
    "short-acting-insulin",
    "intermediate-acting-insulin",
    "long-acting-insulin",
    "pre-mixed-insulin",
)
CARBOHYDRATES = numbered("breakfast", "lunch", "dinner", "snack", "drink", "supper", "brunch")
MEALS = numbered("preprandial", "postprandial", "fasting", "casual", "bedtime")
TESTERS = numbered("self", "health-care-professional", "lab-test") | {15: "not-available"}
HEALTH = numbered(
    "minor-health-issues", "major-health-issues", "during-menses", "under-stress", "no-health-issues"
) | {15: "not-available"}


def context(t):
    out, p = {}, "glucose_measurement_context."
    litres = t.number(p + "flags.medication_value_units")
    out["sequence_number"] = t.number(p + "sequence_number")
    out["extended_flags"] = t.number(p + "extended_flags")
    out["carbohydrate_id"] = term(CARBOHYDRATES, t.number(p + "carbohydrate_id"))
    t.measured(p + "carbohydrate.kg", "carbohydrate", out)
    out["meal"] = term(MEALS, t.number(p + "meal"))
    tester, health = t.number(p + "tester_and_health.health"), t.number(p + "tester_and_health.tester")
    t.counts["nibbles"] += tester != health
    out["tester"], out["health"] = term(TESTERS, tester), term(HEALTH, health)
    out["exercise_duration"] = t.number(p + "exercise_duration")
    out["exercise_intensity"] = t.number(p + "exercise_intensity")
    out["medication_id"] = term(MEDICATIONS, t.number(p + "medication_id"))
    t.measured(p + ("medication.l" if litres else "medication.kg"), "medication", out)
    there = t.number(p + "flags.medication_id_and_medication")
    out["medication_unit"] = ("L" if litres else "kg") if there else None
    t.measured(p + "hba1c", "hba1c", out)
    return out


def make_weight(o, n):
    flags = o.flags(n, 4, reserved=0xF0)
    o.put("H", o.rng.choice([0xFFFF, o.rng.randrange(1 << 16), o.rng.randrange(1 << 16)]))
    if flags & 2:
        o.date_time()
    if flags & 4:
        o.one_of(0, 1, 2, 254, 255)
    if flags & 8:
        o.any("H", "bmi"), o.any("H", "height")


def weight(t):
    out, p = {}, "weight_measurement."
    pounds = t.number(p + "flags.measurement_units")
    scaled(out, "weight", t.number(p + ("weight.lb" if pounds else "weight.kg")), "0.01" if pounds else "0.005")
    out["unit"] = "[lb_av]" if pounds else "kg"
    out["time_stamp"] = t.date_time()
    user = t.number(p + "user_id")
    out["user_id"] = None if user == 255 else user
    scaled(out, "bmi", t.dated(p + "bmi", "bmi"), "0.1")
    height = t.dated(p + ("height.in" if pounds else "height.m"), "height")
    scaled(out, "height", height, "0.1" if pounds else "0.001")
    return out


COMPOSITION = ["basal_metabolism", "muscle_percentage", "muscle_mass", "fat_free_mass", "soft_lean_mass"] + [
    "body_water_mass",
    "impedance",
    "weight",
    "height",
]


def make_composition(o, n):
    flags = o.flags(n, 13, "H")
    o.put("H", o.rng.choice([0xFFFF, o.rng.randrange(1 << 16), o.rng.randrange(1 << 16)]))
    if flags & 2:
        o.date_time()
    if flags & 4:
        o.one_of(0, 1, 2, 254, 255)
    for bit, name in enumerate(COMPOSITION, 3):
        if flags & 1 << bit:
            o.any("H", name)


def composition(t):
    out, p = {}, "body_composition_measurement."
    pounds = t.number(p + "flags.measurement_units")
    mass = ("lb", "0.01") if pounds else ("kg", "0.005")
    scaled(out, "body_fat_percentage", t.number(p + "body_fat_percentage"), "0.1")
    out["unit"] = "[lb_av]" if pounds else "kg"
    out["time_stamp"] = t.date_time()
    user = t.number(p + "user_id")
    out["user_id"] = None if user == 255 else user
    for name in COMPOSITION:
        field, step = p + name, {"basal_metabolism": "1", "muscle_percentage": "0.1", "impedance": "0.1"}.get(name)
        if name == "height":
            field, step = field + (".inches" if pounds else ".meter"), "0.1" if pounds else "0.001"
        elif step is None:
            field, step = f"{field}.{mass[0]}", mass[1]
        scaled(out, name, t.dated(field, name), step)
    out["multiple_packet_measurement"] = bool(t.number(p + "flags.multiple_packet_measurement"))
    return out


COMPOSITION_FEATURES = [("timestamp", "time-stamp-supported"), ("multiple_users", "multiple-users-supported")] + [
    (name, name.replace("_", "-") + "-supported") for name in COMPOSITION
]
WEIGHT_FEATURES = COMPOSITION_FEATURES[:2] + [("bmi", "bmi-supported")]
PRESSURE_FEATURES = [
    ("body_movement_detection", "body-movement-detection-supported"),
    ("cuff_fit_detection", "cuff-fit-detection-supported"),
    ("irregular_pulse_detection", "irregular-pulse-detection-supported"),
    ("puls_rate_range", "pulse-rate-range-detection-supported"),
    ("measurement_position_detection", "measurement-position-detection-supported"),
    ("multiple_bond", "multiple-bonds-supported"),
    # Blood Pressure Service 1.1, which tshark does not know yet.
    "e2e-crc-supported",
    "user-data-service-supported",
    "user-facing-time-supported",
]
GLUCOSE_FEATURES = [
    ("low_battery_detection_during_measurement", "low-battery-detection-during-measurement"),
    ("sensor_malfunction_detection", "sensor-malfunction-detection"),
    ("sensor_sample_size", "sensor-sample-size"),
    ("sensor_strip_insertion_error_detection", "sensor-strip-insertion-error-detection"),
    ("sensor_strip_type_error_detection", "sensor-strip-type-error-detection"),
    ("sensor_result_high_low_detection", "sensor-result-high-low-detection"),
    ("sensor_temperature_high_low_detection", "sensor-temperature-high-low-detection"),
    ("sensor_read_interrupt_detection", "sensor-read-interrupt-detection"),
    ("general_device_fault", "general-device-fault"),
    ("time_fault", "time-fault"),
    ("multiple_bond", "multiple-bond"),
]


def resolved(t, name, ours, features, mass, ours_mass):
    return {
        ours: [one for one in t.terms(name, features, len(features))],
        ours_mass: t.number(f"{name}.{mass}"),
        "height_measurement_resolution": t.number(name + ".height_measurement_resolution"),
    }


def make_control_point(o, n):
    kind = n % 5
    if kind == 0:
        o.put("BB", 3, 0)
    elif kind == 1:
        o.one_of(1, 2, 4)
        o.one_of(1, 5, 6)
    elif kind == 2:
        o.one_of(1, 2, 4)
        operator = o.one_of(2, 3, 4)
        o.put("B", 1)
        o.any("HH" if operator == 4 else "H")
    elif kind == 3:
        o.put("BB", 5, 0)
        o.any("H")
    else:
        o.put("BB", 6, 0)
        o.one_of(1, 2, 3, 4, 12)
        o.one_of(*range(1, 10))


OPCODES = numbered("report-stored-records", "delete-stored-records", "abort-operation", "report-number-of-stored-records")
OPCODES |= {5: "number-of-stored-records-response", 6: "response-code"}
OPERATORS = numbered(
    "null", "all-records", "less-than-or-equal-to", "greater-than-or-equal-to", "within-range-of", "first-record", "last-record", first=0
)
RESPONSES = numbered(
    "success",
    "op-code-not-supported",
    "invalid-operator",
    "operator-not-supported",
    "invalid-operand",
    "no-records-found",
    "abort-unsuccessful",
    "procedure-not-completed",
    "operand-not-supported",
)


def control_point(t):
    p = "record_access_control_point."
    out = {"op_code": term(OPCODES, t.number(p + "opcode")), "operator": term(OPERATORS, t.number(p + "operator"))}
    if t.number(p + "opcode") == 5:
        out["number_of_records"] = t.number("record_access_control_point_operand.number_of_records")
    elif t.number(p + "opcode") == 6:
        out["request_op_code"] = term(OPCODES, t.number(p + "request_opcode"))
        out["response_code_value"] = term(RESPONSES, t.number(p + "response_code"))
    else:
        # tshark calls the bound of "less or equal" and "greater or equal" by either name; the operator says which it is.
        low, high = (t.number(f"record_access_control_point_operand.{which}_time_offset") for which in ("min", "max"))
        bounds = [bound for bound in (low, high) if bound is not None]
        out["operand"] = None
        if bounds:
            names = {2: ["maximum"], 3: ["minimum"], 4: ["minimum", "maximum"]}[t.number(p + "operator")]
            out["operand"] = {"filter_type": "sequence-number"} | dict(zip(names, bounds, strict=True))
    return out


ADJUST_REASONS = [
    ("manual_time_update", "manual-time-update"),
    ("external_reference_time_update", "external-reference-time-update"),
    ("change_of_timezone", "change-of-time-zone"),
    ("change_of_dst", "change-of-dst"),
]


def parts(t):
    fields = {name: t.number(name) for name in ("year", "month", "day", "hours", "minutes", "seconds")}
    return {"date_time": t.date_time()} | fields


def make_current_time(o, n):
    o.date_time()
    o.one_of(*range(8))
    o.any("B")
    o.put("B", n % 16)


def current_time(t):
    return parts(t) | {
        "day_of_week": t.number("day_of_week"),
        "fractions256": t.number("fractions256"),
        "adjust_reason": t.terms("adjust_reason", ADJUST_REASONS, 8),
    }


def system_id(t):
    return {
        "manufacturer_defined": f"{t.number('system_id.manufacturer_identifier'):010x}",
        "organizationally_unique": f"{t.number('system_id.organizationally_unique_identifier'):06x}",
    }


def pnp_id(t):
    names = ("vendor_id_source", "vendor_id", "product_id", "product_version")
    return {name: t.number("pnp_id." + name) for name in names}


def make_text(o, n):
    length = o.rng.randrange(1, SHORT_VALUE_OCTETS)
    text = "".join(o.rng.choice("ABCXYZabcxyz0189 -_./()+é") for _ in range(length))
    o.octets += (text.encode()[:SHORT_VALUE_OCTETS].decode(errors="ignore").strip() or "A").encode()


def text(name):
    return make_text, lambda t: {"text": t.text(name)}


def raw(layout):
    return lambda o, n: o.any(layout)


SENSOR_LOCATIONS = numbered("other", "chest", "wrist", "finger", "hand", "ear-lobe", "foot", first=0)

# What is made, and what its fields are; packets beyond the default count where there are more combinations of flags.
CHARACTERISTICS = {
    "2a00": text("device_name"),
    "2a08": (lambda o, n: o.date_time(), parts),
    "2a18": (make_glucose, glucose),
    "2a19": (lambda o, n: o.one_of(*range(101)), lambda t: {"battery_level": t.number("battery_level")}),
    "2a1c": (make_temperature, temperature),
    "2a1d": (raw("B"), lambda t: {"temperature_type": term(TEMPERATURE_TYPES, t.number("temperature_type"))}),
    "2a1e": (make_temperature, temperature),
    "2a21": (raw("H"), lambda t: {"measurement_interval": t.number("measurement_interval")}),
    "2a23": (raw("8s"), system_id),
    "2a24": text("model_number_string"),
    "2a25": text("serial_number_string"),
    "2a26": text("firmware_revision_string"),
    "2a27": text("hardware_revision_string"),
    "2a28": text("software_revision_string"),
    "2a29": text("manufacturer_string"),
    "2a2b": (make_current_time, current_time),
    "2a34": (make_context, context),
    "2a35": (make_pressure, lambda t: pressure(t, cuff=False)),
    "2a36": (make_pressure, lambda t: pressure(t, cuff=True)),
    "2a37": (make_heart_rate, heart_rate),
    "2a38": (raw("B"), lambda t: {"body_sensor_location": term(SENSOR_LOCATIONS, t.number("body_sensor_location"))}),
    "2a49": (
        raw("H"),
        lambda t: {"blood_pressure_feature": t.terms("blood_pressure.feature", PRESSURE_FEATURES, 16)},
    ),
    "2a50": (raw("BHHH"), pnp_id),
    "2a51": (raw("H"), lambda t: {"glucose_feature": t.terms("glucose.feature", GLUCOSE_FEATURES, 16)}),
    "2a52": (make_control_point, control_point),
    "2a5e": (make_plx(None, False), lambda t: plx(t, continuous=False)),
    "2a5f": (make_plx(None, True), lambda t: plx(t, continuous=True)),
    "2a60": (make_plx_features, plx_features),
    "2a9b": (
        raw("I"),
        lambda t: resolved(
            t,
            "body_composition_feature",
            "body_composition_feature",
            COMPOSITION_FEATURES,
            "mass_measurement_resolution",
            "mass_measurement_resolution",
        ),
    ),
    "2a9c": (make_composition, composition),
    "2a9d": (make_weight, weight),
    "2a9e": (
        raw("I"),
        lambda t: resolved(
            t,
            "weight_scale_feature",
            "weight_scale_feature",
            WEIGHT_FEATURES,
            "weight_measurement_resolution",
            "weight_measurement_resolution",
        ),
    ),
}
# What the project works out of the fields beside them, and tshark does not.
WORKED_OUT = {"2a18": ["user_facing_time", "customary"], "2a19": ["low"]}


# --- the two decoders ---

HANDLE = 0x0010


def capture(values):
    """Handle Value Notifications over HCI H4 with direction (link type 201), after an exchange of the MTU."""
    pdus = [(0, struct.pack("<BH", 0x02, 517)), (1, struct.pack("<BH", 0x03, 517))]
    pdus += [(1, struct.pack("<BH", 0x1B, HANDLE) + value) for value in values]
    octets = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 201)
    for number_, (direction, att) in enumerate(pdus):
        l2cap = struct.pack("<HH", len(att), 4) + att
        packet = struct.pack(">I", direction) + b"\x02" + struct.pack("<HH", 0x2001, len(l2cap)) + l2cap
        octets += struct.pack("<IIII", number_, 0, len(packet), len(packet)) + packet
    return octets


def by_tshark(uuid, values, folder):
    path = f"{folder}/{uuid}.pcap"
    with open(path, "wb") as file:
        file.write(capture(values))
    service = f"btatt.handle=={HANDLE:#x},btgatt.uuid0x{uuid}"
    command = ["tshark", "-r", path, "-T", "json", "-J", "btatt", "-d", service]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    packets = json.loads(run.stdout, object_pairs_hook=list)
    said = [dict(dict(dict(packet)["_source"])["layers"])["btatt"] for packet in packets[2:]]
    assert len(said) == len(values), f"{uuid}: tshark left packets out"
    return said


def by_kit_agent(agent, uuid, values):
    lines = []
    for first in range(0, len(values), DECODED_AT_ONCE):
        words = [word for value in values[first : first + DECODED_AT_ONCE] for word in ("--hex", value.hex())]
        command = [agent, "decode", "--characteristic", uuid, *words]
        run = subprocess.run(command, check=True, capture_output=True, text=True)
        lines += [json.loads(line) for line in run.stdout.splitlines()]
    assert len(lines) == len(values), f"{uuid}: {len(lines)} lines for {len(values)} values"
    return lines


def compare(agent, uuid, count, seed, folder, counts):
    """How many fields were the same, and what was not."""
    make, expected = CHARACTERISTICS[uuid]
    made = []
    for n in range(count):
        octets = Octets(random.Random(f"{seed} {uuid} {n}"))
        make(octets, n)
        made.append(octets)
    values = [one.octets for one in made]
    theirs, ours = by_tshark(uuid, values, folder), by_kit_agent(agent, uuid, values)
    fields, wrong = 0, []
    for one, their, our in zip(made, theirs, ours, strict=True):
        t = Fields(their, one.raw, counts)
        want = expected(t)
        got = dict(our.get("measurement") or {"refused": our})
        for name in WORKED_OUT.get(uuid, []):
            got.pop(name, None)
        fields += len(want)
        if got != want:
            differing = {name: (want.get(name), got.get(name)) for name in want | got if want.get(name) != got.get(name)}
            wrong.append((one.octets.hex(), differing))
    return fields, wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("agent", help="the program kit-agent")
    parser.add_argument("--count", type=int, default=2000, help="packets a characteristic")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="one characteristic, such as 2a5e")
    options = parser.parse_args()
    version = subprocess.run(["tshark", "--version"], check=True, capture_output=True, text=True).stdout.splitlines()[0]
    print(f"{version}; seed {options.seed}")
    counts, packets, failed = dict.fromkeys(KNOWN, 0), 0, False
    with tempfile.TemporaryDirectory() as folder:
        for uuid in [options.only] if options.only else CHARACTERISTICS:
            count = max(options.count, 8192) if uuid == "2a9c" else options.count
            fields, wrong = compare(options.agent, uuid, count, options.seed, folder, counts)
            packets += count
            print(f"{uuid}: {count} packets, {fields} fields the same" if not wrong else f"{uuid}: {len(wrong)} of {count} differ")
            failed |= bool(wrong)
            for octets, differing in wrong[:5]:
                print(f"  {octets}")
                for name, (tshark, kit_agent) in differing.items():
                    print(f"    {name}: tshark {tshark!r}, kit-agent {kit_agent!r}")
    for name, times in counts.items():
        if times:
            print(f"tshark: {KNOWN[name]}: {times} times, read here from the octets")
    print(f"{packets} packets, seed {options.seed}: {'FAILED' if failed else 'the same'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
