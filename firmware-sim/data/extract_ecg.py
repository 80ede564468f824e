#!/usr/bin/env python3
"""Makes ecg_8x5000_500hz.i16le out of the recorded 12-lead ECG that comes inside pydicom.

    pip download pydicom==3.0.1 --no-deps
    python3 -m zipfile -e pydicom-3.0.1-py3-none-any.whl pydicom-3.0.1
    python3 extract_ecg.py pydicom-3.0.1 ecg_8x5000_500hz.i16le

Takes leads I, II, V1-V6 of the first multiplex group (1000 Hz, 1.25 uV a digit), lowers the rate to 500 Hz and writes
rows of eight 16-bit little-endian integers, 1.25 uV a digit. Needs nothing but the unpacked wheel.

Lowering the rate: a linear-phase low-pass of 63 taps (windowed sinc, Hamming, half amplitude at 210 Hz) against aliasing,
at its edges with the first and last sample repeated; then every second sample, rounded to the nearest integer.

It also looks for the seam: the two rows between which the recording is repeated with the least jump.
"""

import math
import struct
import sys

LEADS = ["Lead I (Einthoven)", "Lead II", "Lead V1", "Lead V2", "Lead V3", "Lead V4", "Lead V5", "Lead V6"]
TAPS, CUT_HZ, RATE_HZ = 63, 210.0, 1000.0
SEAM_ROWS = 100  # compared on both sides of the seam: 0.2 s


def channels(wheel):
    sys.path.insert(0, wheel)
    from pydicom import dcmread

    group = dcmread(f"{wheel}/pydicom/data/test_files/waveform_ecg.dcm").WaveformSequence[0]
    count, samples = group.NumberOfWaveformChannels, group.NumberOfWaveformSamples
    assert float(group.SamplingFrequency) == RATE_HZ and group.WaveformBitsAllocated == 16
    values = struct.unpack(f"<{count * samples}h", group.WaveformData)
    named = {}
    for index, channel in enumerate(group.ChannelDefinitionSequence):
        assert float(channel.ChannelSensitivity) == 1.25
        assert channel.ChannelSensitivityUnitsSequence[0].CodeValue == "uV"
        named[channel.ChannelSourceSequence[0].CodeMeaning] = values[index::count]
    return [named[lead] for lead in LEADS]


def low_pass():
    middle = (TAPS - 1) // 2
    taps = []
    for n in range(TAPS):
        x = n - middle
        sinc = 2 * CUT_HZ / RATE_HZ if x == 0 else math.sin(2 * math.pi * CUT_HZ / RATE_HZ * x) / (math.pi * x)
        taps.append(sinc * (0.54 - 0.46 * math.cos(2 * math.pi * n / (TAPS - 1))))
    total = sum(taps)
    return [tap / total for tap in taps]


def halve(samples, taps):
    middle = (TAPS - 1) // 2
    padded = [samples[0]] * middle + list(samples) + [samples[-1]] * middle
    return [round(sum(tap * padded[n + k] for k, tap in enumerate(taps))) for n in range(0, len(samples), 2)]


def seam(rows):
    best = None
    for first in range(SEAM_ROWS, 1000):
        for last in range(len(rows) - 1000, len(rows) - SEAM_ROWS):
            # A cheap look at every 10th row first, whole only where it may be the best.
            bound = best[0] if best else math.inf
            error = 0
            for offset in range(-SEAM_ROWS, SEAM_ROWS, 10):
                error += sum(abs(a - b) for a, b in zip(rows[first + offset], rows[last + offset]))
                if error >= bound:
                    break
            if error < bound:
                best = (error, first, last)
    return best


def main():
    wheel, out = sys.argv[1:3]
    taps = low_pass()
    rows = list(zip(*(halve(samples, taps) for samples in channels(wheel))))
    with open(out, "wb") as file:
        for row in rows:
            file.write(struct.pack("<8h", *row))
    error, first, last = seam(rows)
    print(f"{len(rows)} rows; play 0..{last}, then {first}..{last} again and again (seam error {error})")


main()
