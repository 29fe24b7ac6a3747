//! Counts each start and each end of a guest once, even if several watches report it: that of a
//! scheme's own folder, and that of a folder given with `--guests`, for example.

use std::collections::BTreeMap;

/// How many guests are remembered. The one that was reported longest ago is forgotten first: all
/// watches have reported it by then.
const KEPT: usize = 1000;

/// How often each watch has reported each guest: as started, or in another value as ended.
#[derive(Debug, Default)]
pub(crate) struct GuestReports {
    guests: BTreeMap<String, Reports>,
    /// How many reports there were in all.
    reports: u64,
}

/// The reports about a guest.
#[derive(Debug, Default)]
struct Reports {
    by_source: BTreeMap<usize, u64>,
    /// The number of the last report about the guest, counted over all reports.
    last: u64,
}

impl GuestReports {
    /// Counts a report about `domain` by the watch `source`. Returns whether it is new: no other
    /// watch has reported the guest as often.
    pub(crate) fn is_new(&mut self, domain: &str, source: usize) -> bool {
        self.reports += 1;
        if !self.guests.contains_key(domain) {
            self.make_room();
        }
        let reports = self.guests.entry(domain.to_owned()).or_default();
        reports.last = self.reports;
        let others = reports.by_source.iter().filter(|(it, _)| **it != source);
        let most = others.map(|(_, count)| *count).max().unwrap_or_default();
        // The first report of a watch that was added later counts as the last one of the others. So
        // its further reports count as soon as the others fail.
        let count = reports.by_source.entry(source).or_insert_with(|| most.saturating_sub(1));
        *count += 1;
        *count > most
    }

    /// Forgets a guest if there are too many.
    fn make_room(&mut self) {
        if self.guests.len() < KEPT {
            return;
        }
        let oldest = self.guests.iter().min_by_key(|(_, reports)| reports.last);
        if let Some(oldest) = oldest.map(|(domain, _)| domain.clone()) {
            self.guests.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_watches_report_counts_once() {
        let mut starts = GuestReports::default();
        for _ in 0..3 {
            assert!(starts.is_new("qemu:/run/a", 1));
            assert!(!starts.is_new("qemu:/run/a", 2));
        }
        // Watch 3 was added later. It reports the third start, and the fourth before the others.
        assert!(!starts.is_new("qemu:/run/a", 3));
        assert!(starts.is_new("qemu:/run/a", 3));
        assert!(!starts.is_new("qemu:/run/a", 2));
        assert!(!starts.is_new("qemu:/run/a", 1));
        assert!(starts.is_new("qemu:/run/b", 3));
    }

    /// A machine that starts a new guest for each job runs for years.
    #[test]
    fn guests_that_are_long_gone_are_forgotten() {
        let mut starts = GuestReports::default();
        for number in 0..3 * KEPT {
            let domain = format!("qemu:/run/{number}");
            assert!(starts.is_new(&domain, 1));
            assert!(!starts.is_new(&domain, 2));
            assert!(starts.guests.len() <= KEPT);
            // A guest that comes again and again is remembered.
            assert!(starts.is_new("qemu:/run/a", 1));
            assert!(!starts.is_new("qemu:/run/a", 2));
        }
        assert_eq!(starts.guests["qemu:/run/a"].by_source[&1], 3 * KEPT as u64);
    }
}
