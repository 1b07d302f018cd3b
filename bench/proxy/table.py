"""Samples, and the table that they make: medians with their spread, and beside each target a verdict."""

import statistics


class Table:
    def __init__(self, rounds):
        self.rounds, self.samples, self.lines = rounds, {}, []

    def add(self, row, peer, sample):
        self.samples.setdefault(row, {}).setdefault(peer, []).append(sample)

    def show(self):
        print(f"{self.rounds} rounds; median (least to most)")
        print("\n".join(self.lines))

    def rate(self, row, targets):
        self._head(f"{row}: requests a second; the proxy's CPU time per request, its share of a core")
        for peer in self.samples[row]:
            cpu = ""
            if peer != "direct":
                cpu = f"{self._median(row, peer, 'cpu_us'):8.1f} us  {self._median(row, peer, 'cpu_share'):5.2f}"
            self._line(peer, self._spread(row, peer, "per_second", "{:.0f}"), cpu)
        for sign, factor, rivals in targets:
            present = [rival for rival in rivals if rival in self.samples[row]]
            if present:
                best = max(present, key=lambda rival: self._median(row, rival, "per_second"))
                ratio = self._ratio(row, best, lambda sample: sample["per_second"])
                self._verdict(f"{sign} {factor} x {best}", f"{ratio:.2f} x", ratio >= factor)

    def added_latency(self, row, rival, factor):
        self._head(f"{row}: p50 of a request in microseconds; added to direct")
        direct = self._median(row, "direct", "p50_us")
        for peer in self.samples[row]:
            added = self._median(row, peer, "p50_us") - direct
            self._line(peer, self._spread(row, peer, "p50_us", "{:.0f}"), "" if peer == "direct" else f"+{added:.0f} us")
        if rival in self.samples[row]:
            ours, theirs = (
                [through["p50_us"] - alone["p50_us"] for through, alone in zip(self.samples[row][peer], self.samples[row]["direct"])]
                for peer in ("assay", rival)
            )
            ratio = statistics.median(our / their for our, their in zip(ours, theirs))
            self._verdict(f"<= {factor} x {rival}'s", f"{ratio:.2f} x", ratio <= factor)

    def streams(self, count, limit_ms):
        row = "streams"
        self._head(f"{count} streams, 50 events a second each: p99 of what the time between two events grew by, ms")
        for peer, samples in self.samples[row].items():
            whole = f"identical {min(s['identical'] for s in samples)}, usage in {min(s['usage'] for s in samples)}"
            self._line(peer, self._spread(row, peer, "stretch_p99_us", "{:.2f}", 1000), whole)
        added = self._median(row, "assay", "stretch_p99_us") - self._median(row, "direct", "stretch_p99_us")
        self._verdict(f"added <= {limit_ms} ms", f"{added / 1000:.2f} ms", added <= limit_ms * 1000)
        ours = self.samples[row]["assay"]
        whole = all(sample["identical"] == sample["usage"] == count for sample in ours)
        self._verdict("bytes identical, usage found in every one", "yes" if whole else "no", whole)

    def memory(self, idle_mb, splice_kb, terminate_kb):
        row = "memory"
        self._head("resident memory: idle in MB; per idle connection in KB, spliced and terminated")
        for peer, samples in self.samples[row].items():
            idle, splice, terminate = (samples[0][key] for key in ("idle_bytes", "splice_bytes", "terminate_bytes"))
            self._line(peer, f"{idle / 1e6:.1f}", f"{splice / 1e3:.1f}  {terminate / 1e3:.1f}")
        ours = self.samples[row]["assay"][0]
        for what, value, limit, unit in (
            ("idle", ours["idle_bytes"] / 1e6, idle_mb, "MB"),
            ("spliced", ours["splice_bytes"] / 1e3, splice_kb, "KB"),
            ("terminated", ours["terminate_bytes"] / 1e3, terminate_kb, "KB"),
        ):
            self._verdict(f"{what} <= {limit} {unit}", f"{value:.1f} {unit}", value <= limit)

    def flat(self, connections):
        sizes = [sample["resident_bytes"] for sample in self.samples["churn"]["assay"]]
        self._head(f"churn: {connections} connections, half spliced, half terminated; resident MB after each fifth")
        self._line("assay", "  ".join(f"{size / 1e6:.1f}" for size in sizes), "")
        # A leak goes on for ever; what is there once has come by then.
        grown = (sizes[-1] - sizes[2]) / (connections * 0.4)
        self._verdict("flat: <= 16 bytes a connection in the last two fifths", f"{grown:.1f}", grown <= 16)

    def overspend(self, budget):
        row = "overspend"
        self._head(f"1000 calls, 100 at once, a purse of ${budget}: what the service billed, and how calls were answered")
        for peer, samples in self.samples[row].items():
            sample = samples[0]
            over = max(0.0, sample["billed_usd"] - budget)
            answers = ", ".join(f"{count} x {status}" for status, count in sample["statuses"].items())
            self._line(peer, f"${sample['billed_usd']:.4f}, over by ${over:.4f}", answers)
        ours = max(0.0, self.samples[row]["assay"][0]["billed_usd"] - budget)
        self._verdict("overspend 0", f"${ours:.4f}", ours == 0)

    def _ratio(self, row, rival, value):
        """The median of the rounds' ratios: what disturbs a round disturbs both."""
        pairs = zip(self.samples[row]["assay"], self.samples[row][rival])
        return statistics.median(value(ours) / value(theirs) for ours, theirs in pairs)

    def _median(self, row, peer, key):
        return statistics.median(sample[key] for sample in self.samples[row][peer])

    def _spread(self, row, peer, key, form, unit=1):
        values = sorted(sample[key] / unit for sample in self.samples[row][peer])
        figures = [form.format(value) for value in (statistics.median(values), values[0], values[-1])]
        return f"{figures[0]} ({figures[1]} to {figures[2]})"

    def _head(self, text):
        self.lines += ["", text]

    def _line(self, peer, figures, more):
        self.lines.append(f"  {peer:12}{figures:32}{more}")

    def _verdict(self, target, figure, reached):
        self.lines.append(f"  target {target}: {figure}: {'reached' if reached else 'NOT REACHED'}")
