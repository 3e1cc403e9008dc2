//! A measurement for people: what was reached, beside what it is compared with and what was to be reached.

use super::figures::{Check, Goal, Refused, Report};

/// The lines.
pub(super) fn human(report: &Report) -> String {
    let Report { bench, unit, clients, seconds, errors, .. } = report;
    let mut lines = vec![match unit {
        &"" => format!("{bench}: {errors} errors"),
        unit => format!(
            "{bench}: {} {unit}/s, {clients} clients, {seconds} s, {errors} errors",
            grouped(report.rate)
        ),
    }];
    if let Some(latency) = &report.latency {
        lines.push(format!(
            "  latency     p50 {:.3} ms, p90 {:.3}, p99 {:.3}, p99.9 {:.3}, max {:.3}",
            latency.p50_ms, latency.p90_ms, latency.p99_ms, latency.p999_ms, latency.max_ms
        ));
    }
    if let Some(Refused { rate, latency }) = &report.refused {
        let latency = latency.map(|latency| {
            format!(
                ", told after p50 {:.3} ms, p99 {:.3}, max {:.3}",
                latency.p50_ms, latency.p99_ms, latency.max_ms
            )
        });
        lines.push(format!("  refused     {}/s{}", grouped(*rate), latency.unwrap_or_default()));
    }
    for (key, pair) in &report.references {
        lines.push(format!(
            "  {key:<11} {}/s (before {}, after {}){}",
            grouped(pair.mean().rate),
            grouped(pair.before.rate),
            grouped(pair.after.rate),
            pair.mean().p50_ms.map(|ms| format!(", p50 {ms:.3} ms")).unwrap_or_default()
        ));
    }
    for (key, bytes) in &report.memory {
        lines.push(format!("  {key}: {}", crate::units::show_size(*bytes)));
    }
    lines.extend(report.checks.iter().map(check));
    if let Some(error) = &report.first_error {
        lines.push(format!("  the first error: {}", crate::text::escape(error)));
    }
    lines.join("\n")
}

fn check(check: &Check) -> String {
    let verdict = match check.goal {
        None => String::new(),
        Some(goal) => {
            let (word, wanted) = match goal {
                Goal::AtLeast(least) => ("at least", least),
                Goal::AtMost(most) => ("at most", most),
            };
            format!(
                " (to reach: {word} {wanted}): {}",
                if goal.is_reached(check.value) { "ok" } else { "not reached" }
            )
        }
    };
    format!("  {:.3} {}{verdict}", check.value, check.what)
}

/// `12,345`.
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::figures::{Pair, Sample};
    use super::*;

    #[test]
    fn people_see_the_ratio_and_what_it_should_be() {
        let side = |rate| Sample { rate, p50_ms: Some(0.25) };
        let mut report = Report {
            bench: "submit",
            unit: "submissions",
            clients: 32,
            seconds: 5.0,
            rate: 31_999.6,
            references: vec![("echo", Pair { before: side(90_000.0), after: side(110_000.0) })],
            errors: 1,
            first_error: Some("503 {}".to_owned()),
            ..Report::default()
        };
        report.ratio("echo", 0.32, "of the bare echo's rate", Some(Goal::AtLeast(0.4)));
        assert_eq!(
            human(&report),
            "submit: 32,000 submissions/s, 32 clients, 5 s, 1 errors\n  \
             echo        100,000/s (before 90,000, after 110,000), p50 0.250 ms\n  \
             0.320 of the bare echo's rate (to reach: at least 0.4): not reached\n  the first error: 503 {}"
        );
    }
}
