#!/usr/bin/env python3
"""Other people's readers against what `kit-agent convert` writes: scripts/check_exports.py KIT_AGENT

Needs wfdb, pyedflib and soundfile (libsndfile) from the package index, and `flac`; scripts/check_exports sets that up.
Every digit, gain, unit, lead name, start and rate has to be what went in. Prints versions, and what was compared.
"""

import datetime
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import pyedflib
import soundfile
import wfdb

LEADS_8 = ["I", "II", "V1", "V2", "V3", "V4", "V5", "V6"]
LEADS_12 = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"]
# leads, rate, uV a digit, bits, samples: the kit's ECG, Lepu's, Contec's, SCP's, a fraction rate, one sample
CASES = [
    (LEADS_8, "500", "1.25", 16, 5000),
    (LEADS_8, "1000", "0.0476837", 24, 30_000),
    (["V5", "I", "II", "V1"], "250", "2.44", 16, 12_345),
    (["II", "III", "V1", "V2", "V3", "V4", "V5", "V6"], "800", "5", 16, 29_748),
    (LEADS_12, "500", "0.183", 16, 5001),
    (LEADS_12, "500", "1", 24, 4097),
    (["II"], "75/2", "4.88", 16, 1000),
    (["I"], "1000/3", "1", 16, 999),
    (["V6"], "500", "1", 16, 1),
]
compared = 0


def check(condition, what):
    global compared
    compared += 1
    if not condition:
        sys.exit(f"FAILED: {what}")


def same(got, expected, what):
    global compared
    compared += expected.size
    if not np.array_equal(np.asarray(got).reshape(expected.shape), expected):
        sys.exit(f"FAILED: {what}: samples differ")


def convert(agent, *words):
    subprocess.run([agent, "convert", *map(str, words)], check=True, stdout=subprocess.DEVNULL)


def signal(rng, leads, bits, samples):
    """Waves with noise up to both ends of the range. In 16 bits 32,750, since EDF holds -79951.48 in no eight characters."""
    top = 32_750 if bits == 16 else 2**23 - 1
    time = np.arange(samples)[:, None]
    waves = np.sin(time / 40 + np.arange(len(leads))) * top / 3 + rng.normal(0, top / 200, (samples, len(leads)))
    digits = waves.astype(np.int64)
    digits[0] = top
    digits[-1, -1] = -top
    return digits


def fraction(rate):
    samples, _, seconds = rate.partition("/")
    return int(samples) / int(seconds or 1)


def check_edf(path, digits, leads, rate, scale):
    with pyedflib.EdfReader(str(path)) as reader:
        check(reader.getSignalLabels() == [f"ECG {lead}" for lead in leads], "EDF labels")
        for at in range(len(leads)):
            # The last record is filled up to its end.
            same(reader.readSignal(at, digital=True)[: len(digits)], digits[:, at], f"EDF {leads[at]}")
            span = reader.getPhysicalMaximum(at) - reader.getPhysicalMinimum(at)
            gain = span / (reader.getDigitalMaximum(at) - reader.getDigitalMinimum(at))
            check(abs(gain / scale - 1) < 1e-12, f"EDF gain {gain} of {scale}")
            physical = reader.readSignal(at)[: len(digits)]
            check(np.allclose(physical, digits[:, at] * scale, rtol=1e-12, atol=scale * 1e-6), "EDF physical values")
            check(abs(reader.getSampleFrequency(at) / rate - 1) < 1e-9, "EDF rate")
            check(reader.getPhysicalDimension(at) == "uV", "EDF unit")


def check_wfdb(header, digits, leads, rate, scale, bits):
    record = wfdb.rdrecord(str(header.with_suffix("")), physical=False)
    check(record.sig_name == leads, "WFDB names")
    check(set(record.fmt) == {"516" if bits == 16 else "524"}, "WFDB formats")
    same(record.d_signal, digits, "WFDB samples")
    check(record.checksum == [int(n) for n in np.array(record.calc_checksum()).astype(np.uint16).astype(np.int16)]
          or record.checksum == record.calc_checksum(), "WFDB checksums")
    check(list(record.init_value) == list(digits[0]), "WFDB initial values")
    check(abs(record.fs / rate - 1) < 1e-9, "WFDB rate")
    check(record.units == ["uV"] * len(leads), "WFDB units")
    physical = wfdb.rdrecord(str(header.with_suffix(""))).p_signal
    check(np.allclose(physical, digits * scale, rtol=1e-14), "WFDB physical values")
    for file in dict.fromkeys(record.file_name):
        subprocess.run(["flac", "--test", "--silent", "--warnings-as-errors", header.parent / file], check=True)
        check(True, "flac")


def check_flac(path, digits, bits):
    subprocess.run(["flac", "--test", "--silent", "--warnings-as-errors", path], check=True)
    read, _ = soundfile.read(path, dtype="int32", always_2d=True)
    same(read >> (32 - bits), digits, "FLAC samples")


def check_missing(agent, folder):
    """Missing samples: WFDB's own, and EDF+ annotations that a reader lists."""
    lines = [f"{n},{-n if n % 7 else ''}" for n in range(1200)]
    (folder / "m.csv").write_text("I,II\n" + "\n".join(lines) + "\n")
    convert(agent, "--from", "csv", "--to", "wfdb", "--rate", "500", "--lsb-uv", "5", folder / "m.csv", folder / "m.hea")
    physical = wfdb.rdrecord(str(folder / "m")).p_signal
    missing = np.isnan(physical)
    check(not missing[:, 0].any() and (missing[:, 1] == (np.arange(1200) % 7 == 0)).all(), "WFDB missing samples")
    convert(agent, "--from", "wfdb", "--to", "edf", folder / "m.hea", folder / "m.edf")
    with pyedflib.EdfReader(str(folder / "m.edf")) as reader:
        onsets, durations, texts = reader.readAnnotations()
    of_lead = [text == "Samples missing@@ECG II" for text in texts]
    # 172 samples, and what fills the last record.
    check(sum(of_lead) == 173, f"EDF+ annotations: {sum(of_lead)}")
    check(np.allclose(onsets[:3], [0, 7 / 500, 14 / 500]) and abs(durations[0] - 1 / 500) < 1e-9, "EDF+ onsets")


def check_start(agent, folder):
    """A start that a file says goes through all formats, to each reader."""
    samples, start = np.arange(500), datetime.datetime(2024, 6, 15, 17, 17, 27)
    wfdb.wrsamp("s", fs=500, units=["mV"], sig_name=["V1"], d_signal=samples[:, None], fmt=["16"], adc_gain=[400.0], baseline=[0],
                base_date=start.date(), base_time=start.time(), write_dir=str(folder))
    convert(agent, "--from", "wfdb", "--to", "edf", folder / "s.hea", folder / "s.edf")
    with pyedflib.EdfReader(str(folder / "s.edf")) as reader:
        check(reader.getStartdatetime() == start, "EDF start")
        check(reader.getPatientName() in ("", "X"), "EDF patient")
        same(reader.readSignal(0, digital=True), samples, "WFDB 16 of wfdb-python as EDF")
    convert(agent, "--from", "edf", "--to", "wfdb", folder / "s.edf", folder / "t.hea")
    record = wfdb.rdheader(str(folder / "t"))
    check(datetime.datetime.combine(record.base_date, record.base_time) == start, "WFDB start")


def check_theirs(agent, folder, rng):
    """What other people's writers make is read digit for digit."""
    digits = rng.integers(-2000, 2000, (3001, 2))
    for fmt in ["16", "24", "212", "516", "524"]:
        if fmt != "212":
            wfdb.wrsamp("w", fs=360, units=["mV"] * 2, sig_name=["II", "V5"], d_signal=digits, fmt=[fmt] * 2,
                        adc_gain=[200.0] * 2, baseline=[12, -7], write_dir=str(folder))
            convert(agent, "--from", "wfdb", "--to", "csv", folder / "w.hea", folder / "w.csv")
            read = np.loadtxt(folder / "w.csv", delimiter=",", skiprows=1, dtype=np.int64)
            same(read, digits - np.array([12, -7]), f"wfdb-python's format {fmt}")
    with pyedflib.EdfWriter(str(folder / "e.edf"), 1, file_type=pyedflib.FILETYPE_EDFPLUS) as writer:
        writer.setSignalHeader(0, {"label": "ECG V3", "dimension": "uV", "sample_frequency": 250, "physical_max": 3276.7,
                                   "physical_min": -3276.8, "digital_max": 32767, "digital_min": -32768,
                                   "transducer": "", "prefilter": "HP:0.05Hz"})
        writer.writeSamples([digits[:3000, 0].astype(np.int32)], digital=True)
    convert(agent, "--from", "edf", "--to", "csv", folder / "e.edf", folder / "e.csv")
    same(np.loadtxt(folder / "e.csv", skiprows=1, dtype=np.int64), digits[:3000, 0], "pyedflib's EDF+")


def main():
    agent, rng = sys.argv[1], np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for number, (leads, rate, scale, bits, samples) in enumerate(CASES):
            digits = signal(rng, leads, bits, samples)
            source = folder / f"c{number}.csv"
            np.savetxt(source, digits, fmt="%d", delimiter=",", header=",".join(leads), comments="")
            told = ["--rate", rate, "--lsb-uv", scale]
            header = folder / f"c{number}.hea"
            convert(agent, "--from", "csv", "--to", "wfdb", *told, source, header)
            check_wfdb(header, digits, leads, fraction(rate), float(scale), bits)
            if len(leads) <= 8:
                convert(agent, "--from", "csv", "--to", "flac", *told, source, folder / "f.flac")
                check_flac(folder / "f.flac", digits, bits)
            if bits == 16:
                convert(agent, "--from", "csv", "--to", "edf", *told, source, folder / "e.edf")
                check_edf(folder / "e.edf", digits, leads, fraction(rate), float(scale))
        check_missing(agent, folder)
        check_start(agent, folder)
        check_theirs(agent, folder, rng)
    flac = subprocess.run(["flac", "--version"], check=True, capture_output=True, text=True).stdout.strip()
    readers = f"wfdb {wfdb.__version__}, pyedflib {pyedflib.__version__}, libsndfile {soundfile.__libsndfile_version__}, {flac}"
    print(f"{datetime.date.today()}: {readers}: {compared} digits and fields are what went in")


main()
