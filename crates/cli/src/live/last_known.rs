//! What a live view shows of a guest whose hypervisor does not answer: its last known hardware, and
//! since when the hypervisor has not answered.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use vusb::view::{AllView, ControllerState, ControllerView, DomainState, State};

/// How long a hypervisor may take to list a guest. The hypervisors are asked at the same time, so
/// those that do not answer delay the list of guests by this time. A live view asks again.
pub(crate) const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// What was last known of each domain.
#[derive(Debug, Default)]
pub(crate) struct LastKnown(BTreeMap<String, Known>);

#[derive(Debug)]
struct Known {
    controllers: Vec<ControllerView>,
    /// The time of the first answer that was missing.
    silent_since: Option<SystemTime>,
}

impl LastKnown {
    /// Remembers the domains that could be listed, and completes those that could not. Returns
    /// whether a domain may answer later, so that it has to be asked again: there is no event when
    /// a hypervisor begins to answer.
    pub(crate) fn complete(&mut self, view: &mut AllView, now: SystemTime) -> bool {
        let mut before = std::mem::take(&mut self.0);
        for it in view.domains.iter().filter(|it| it.state != DomainState::Unknown) {
            let controllers = it.controllers.clone();
            self.0.insert(it.domain.clone(), Known { controllers, silent_since: None });
        }
        let mut may_answer = false;
        for it in &mut view.unreachable {
            let has_ended = it.controllers.iter().any(|it| it.state == ControllerState::Missing);
            may_answer |= !has_ended && !it.controllers.is_empty();
            let known = before.remove(&it.domain).filter(|_| !has_ended);
            let Some(mut known) = known else { continue };
            may_answer = true;
            let since = *known.silent_since.get_or_insert(now);
            it.why = format!("not responding since {}: {}", time_of_day(since), it.why);
            it.controllers = known.controllers.iter().cloned().map(unknown).collect();
            self.0.insert(it.domain.clone(), known);
        }
        may_answer
    }
}

/// The last known state of a controller, as a state that is unknown now.
fn unknown(mut controller: ControllerView) -> ControllerView {
    controller.state = ControllerState::Unknown;
    controller.counters = None;
    controller.devices.iter_mut().for_each(|it| it.state = State::Unknown);
    controller
}

/// `14:03:12 UTC`.
fn time_of_day(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() % 86_400;
    format!("{:02}:{:02}:{:02} UTC", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn controller(state: &str) -> serde_json::Value {
        json!({
            "index": 0, "name": "hci0", "type": "emulated", "model": "qemu-xhci", "usbversion": 3,
            "ports": 15, "origin": "vusb", "state": state, "devices": [],
        })
    }

    fn answered() -> AllView {
        let domain = json!({
            "api": 1, "domain": "web1", "address": "qemu:/run/web1.qmp", "state": "running",
            "suspended": false, "profile": "vusb-1", "controllers": [controller("present")],
            "foreign": [], "notes": [],
        });
        let all = json!({ "api": 1, "domains": [domain], "unreachable": [], "unrecorded": [] });
        serde_json::from_value(all).unwrap()
    }

    fn silent(controllers: &[serde_json::Value]) -> AllView {
        let domain = json!({ "domain": "web1", "why": "timed out", "holds": [], "controllers": controllers });
        let all = json!({ "api": 1, "domains": [], "unreachable": [domain], "unrecorded": [] });
        serde_json::from_value(all).unwrap()
    }

    #[test]
    fn a_domain_that_does_not_answer_keeps_its_last_known_hardware() {
        let mut known = LastKnown::default();
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        assert!(!known.complete(&mut answered(), at(0)));
        for now in [at(3723), at(3800)] {
            let mut view = silent(&[]);
            assert!(known.complete(&mut view, now), "it is asked again");
            assert_eq!(view.unreachable[0].why, "not responding since 01:02:03 UTC: timed out");
            assert_eq!(view.unreachable[0].controllers.len(), 1);
            assert_eq!(view.unreachable[0].controllers[0].state, ControllerState::Unknown);
        }
        assert!(!known.complete(&mut answered(), at(4000)));
        let mut view = silent(&[]);
        known.complete(&mut view, at(7200));
        assert!(view.unreachable[0].why.contains("since 02:00:00 UTC"));
    }

    #[test]
    fn a_domain_that_has_ended_or_was_never_seen_is_left_as_it_is() {
        let mut known = LastKnown::default();
        let mut view = silent(&[controller("unknown")]);
        assert!(known.complete(&mut view, UNIX_EPOCH), "it may answer later");
        assert_eq!(view.unreachable[0].why, "timed out");
        known.complete(&mut answered(), UNIX_EPOCH);
        let mut view = silent(&[controller("missing")]);
        assert!(!known.complete(&mut view, UNIX_EPOCH));
        assert_eq!(view.unreachable[0].why, "timed out");
        assert_eq!(view.unreachable[0].controllers[0].state, ControllerState::Missing);
    }
}
