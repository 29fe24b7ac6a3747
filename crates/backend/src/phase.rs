//! The life of one controller, as the store shows it.
//!
//! ```text
//!              ┌──────┐ toolstack made it: write 2     ┌─────────┐
//!         ┌───▶│ Idle │───────────────────────────────▶│ Waiting │
//!         │    └──────┘◀───────────────────────────────└─────────┘
//!         │        removed, or the guest closed: 6          │ guest is at 3 or 4: map the rings,
//!         │                                                 ▼ start a thread, write 4
//!    ┌────────┐    guest at 5, 6, 1 or gone, or        ┌─────────┐
//!    │ Ending │◀───the folder is gone: stop the thread─│ Running │
//!    └────────┘                                        └─────────┘
//!         the thread has given everything back: 5 if the guest is at 5, else 6
//! ```
//!
//! A toolstack that takes a controller away writes 5 here and waits. While the guest is at work the backend goes on serving it, for the guest must
//! bring its transfers to an end before it can let go; the guest's own 5 or 6 ends the thread. A thread that ends by itself, because the guest broke
//! the protocol, leaves 5: the guest's driver then takes its controller down.
//!
//! Found at 4 with no thread of ours, a controller belongs to a backend that was killed. Its ring cannot be taken over, for nobody knows which
//! requests were not answered. It is closed, and the toolstack makes it anew.

use vusb_xen::State;

/// Where a controller stands in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing of it is in use.
    Idle,
    /// The guest may connect.
    Waiting,
    /// A thread serves it.
    Running,
    /// The thread was told to stop.
    Ending,
}

/// What the store says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sight {
    /// Our own folder: whether the controller is to be there, and our state. `None`: the folder is gone.
    pub backend: Option<Backend>,
    /// The guest's state; `None`: its folder is gone.
    pub frontend: Option<State>,
}

/// Our own folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend {
    /// `online`.
    pub online: bool,
    /// `state`.
    pub state: State,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Wait for the next change.
    Nothing,
    /// The guest may connect already: nothing needs writing.
    Wait,
    /// Write 2.
    Offer,
    /// Map the rings and start the thread.
    Connect,
    /// Tell the thread to stop.
    Stop,
    /// Close what a killed backend left behind: write why, and 5.
    CloseStale,
    /// Write 6.
    Closed,
    /// The folder is gone: forget the controller.
    Forget,
}

/// What to do about a controller.
pub fn next(phase: Phase, sight: Sight) -> Action {
    match phase {
        Phase::Idle => idle(sight),
        Phase::Waiting => waiting(sight),
        Phase::Running => running(sight),
        Phase::Ending => Action::Nothing,
    }
}

fn idle(sight: Sight) -> Action {
    let Some(backend) = sight.backend else { return Action::Forget };
    match backend.state {
        State::Closed if backend.online && sight.frontend == Some(State::Initialising) => {
            Action::Offer
        }
        State::Closed => Action::Nothing,
        _ if !backend.online => Action::Closed,
        State::Unknown | State::Initialising => Action::Offer,
        State::InitWait => Action::Wait,
        State::Closing if lets_go(sight.frontend) => Action::Closed,
        State::Closing => Action::Nothing,
        _ => Action::CloseStale,
    }
}

fn waiting(sight: Sight) -> Action {
    let Some(backend) = sight.backend else { return Action::Forget };
    if !backend.online || backend.state == State::Closing {
        return Action::Closed;
    }
    match sight.frontend {
        Some(State::Initialised | State::Connected) => Action::Connect,
        Some(State::Closing | State::Closed) => Action::Closed,
        _ => Action::Nothing,
    }
}

fn running(sight: Sight) -> Action {
    if sight.backend.is_none() || lets_go(sight.frontend) { Action::Stop } else { Action::Nothing }
}

/// Whether the guest does not use the controller any more.
fn lets_go(frontend: Option<State>) -> bool {
    !matches!(frontend, Some(State::Initialised | State::Connected))
}

/// What to write once the thread has given everything back.
pub fn after_end(frontend: Option<State>) -> State {
    if frontend == Some(State::Closing) { State::Closing } else { State::Closed }
}

#[cfg(test)]
mod tests {
    use super::*;
    use State::{Closed, Closing, Connected, InitWait, Initialising};

    fn sight(online: bool, state: State, frontend: Option<State>) -> Sight {
        Sight { backend: Some(Backend { online, state }), frontend }
    }

    #[test]
    fn a_new_controller_is_offered_connected_and_closed() {
        let at = |phase, state, frontend| next(phase, sight(true, state, Some(frontend)));
        assert_eq!(at(Phase::Idle, Initialising, Initialising), Action::Offer);
        assert_eq!(at(Phase::Waiting, InitWait, Initialising), Action::Nothing);
        assert_eq!(at(Phase::Waiting, InitWait, Connected), Action::Connect);
        assert_eq!(at(Phase::Running, Connected, Connected), Action::Nothing);
        assert_eq!(at(Phase::Running, Connected, Closing), Action::Stop);
        assert_eq!(after_end(Some(Closing)), Closing);
        assert_eq!(at(Phase::Idle, Closing, Closed), Action::Closed);
    }

    #[test]
    fn removal_waits_for_the_guest_and_not_for_a_guest_that_is_gone() {
        let at = |phase, frontend| next(phase, sight(false, Closing, frontend));
        assert_eq!(at(Phase::Running, Some(Connected)), Action::Nothing);
        assert_eq!(at(Phase::Running, Some(Closed)), Action::Stop);
        assert_eq!(at(Phase::Running, None), Action::Stop);
        assert_eq!(at(Phase::Waiting, Some(Initialising)), Action::Closed);
        assert_eq!(at(Phase::Idle, Some(Connected)), Action::Closed);
        let gone = Sight { backend: None, frontend: Some(Connected) };
        assert_eq!(next(Phase::Running, gone), Action::Stop);
        assert_eq!(next(Phase::Idle, gone), Action::Forget);
    }

    #[test]
    fn a_guest_that_comes_back_finds_the_backend_waiting() {
        assert_eq!(next(Phase::Running, sight(true, Connected, Some(Initialising))), Action::Stop);
        assert_eq!(after_end(Some(Initialising)), Closed);
        assert_eq!(next(Phase::Idle, sight(true, Closed, Some(Initialising))), Action::Offer);
        assert_eq!(next(Phase::Idle, sight(false, Closed, Some(Initialising))), Action::Nothing);
    }

    #[test]
    fn what_a_killed_backend_left_is_closed_and_not_taken_over() {
        assert_eq!(next(Phase::Idle, sight(true, Connected, Some(Connected))), Action::CloseStale);
        assert_eq!(next(Phase::Idle, sight(true, Closing, Some(Connected))), Action::Nothing);
        assert_eq!(next(Phase::Idle, sight(true, Closing, Some(Closed))), Action::Closed);
        assert_eq!(next(Phase::Idle, sight(true, InitWait, Some(Initialising))), Action::Wait);
    }
}
