//! The life cycle of one controller, as xenstore shows it. Numbers are XenBus states.
//!
//! ```text
//!               ┌──────┐ created by the toolstack: write 2 ┌─────────┐
//!          ┌───▶│ Idle │──────────────────────────────────▶│ Waiting │
//!          │    └──────┘◀──────────────────────────────────└─────────┘
//!          │        removed, or closed by the guest: 6          │ guest at 3 or 4: map the rings,
//!          │                                                    ▼ start a thread, write 4
//!    ┌──────────┐    guest at 5, 6, 1 or gone, or          ┌─────────┐
//!    │ Stopping │◀───nodes removed: stop the thread────────│ Running │
//!    └──────────┘                                          └─────────┘
//!          the thread has released all devices: 5 if the guest is at 5, otherwise 6
//! ```
//!
//! To remove a controller, a toolstack writes 5 into the backend's state and waits. As long as the
//! guest uses the controller, the backend keeps serving it, because the guest has to finish its
//! transfers before it can release the controller. The guest's own 5 or 6 stops the thread. A
//! thread that ends because the guest broke the protocol leaves state 5; the guest's driver then
//! removes its controller.
//!
//! A controller in state 4 without a thread in this process belongs to a backend that was killed.
//! Its ring cannot be resumed, because it is unknown which requests were answered. It is closed,
//! and the toolstack recreates it.

use vusb_xen::State;

/// The phase of a controller in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing is in use.
    Idle,
    /// The guest may connect.
    Waiting,
    /// A thread serves it.
    Running,
    /// The thread has been asked to stop.
    Stopping,
}

/// The state of a controller in xenstore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XenbusView {
    /// The backend's nodes; `None` if they do not exist.
    pub backend: Option<BackendNodes>,
    /// The guest's state; `None` if its nodes do not exist.
    pub frontend: Option<State>,
}

/// The nodes in the backend's directory that determine the phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackendNodes {
    /// `online`: whether the toolstack wants the controller to exist.
    pub online: bool,
    /// `state`: the backend's own state, which the toolstack may write too.
    pub state: State,
}

/// What the supervisor does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing, until the next change.
    Nothing,
    /// Enter [`Phase::Waiting`]. The state is 2 already, so nothing has to be written.
    AlreadyAdvertised,
    /// Let the guest connect: write 2.
    Advertise,
    /// Map the rings and start the thread.
    Connect,
    /// Ask the thread to stop.
    Stop,
    /// Close what a killed backend left behind, or what this one could not close earlier: write the
    /// reason, and 5.
    CloseStale,
    /// Write 6.
    WriteClosed,
    /// The nodes were removed: forget the controller.
    Forget,
}

/// Decides what to do about a controller.
pub fn next(phase: Phase, view: XenbusView) -> Action {
    match phase {
        Phase::Idle => idle(view),
        Phase::Waiting => waiting(view),
        Phase::Running => running(view),
        Phase::Stopping => Action::Nothing,
    }
}

fn idle(view: XenbusView) -> Action {
    let Some(backend) = view.backend else { return Action::Forget };
    match backend.state {
        State::Closed if backend.online && view.frontend == Some(State::Initialising) => {
            Action::Advertise
        }
        State::Closed => Action::Nothing,
        _ if !backend.online => Action::WriteClosed,
        State::Unknown | State::Initialising => Action::Advertise,
        State::InitWait => Action::AlreadyAdvertised,
        State::Closing if has_released(view.frontend) => Action::WriteClosed,
        State::Closing => Action::Nothing,
        _ => Action::CloseStale,
    }
}

fn waiting(view: XenbusView) -> Action {
    let Some(backend) = view.backend else { return Action::Forget };
    if !backend.online || backend.state == State::Closing {
        return Action::WriteClosed;
    }
    match view.frontend {
        Some(State::Initialised | State::Connected) => Action::Connect,
        Some(State::Closing | State::Closed) => Action::WriteClosed,
        _ => Action::Nothing,
    }
}

fn running(view: XenbusView) -> Action {
    if view.backend.is_none() || has_released(view.frontend) {
        Action::Stop
    } else {
        Action::Nothing
    }
}

/// Whether the guest no longer uses the controller.
fn has_released(frontend: Option<State>) -> bool {
    !matches!(frontend, Some(State::Initialised | State::Connected))
}

/// The state to write once the thread has released all devices.
pub fn state_after_stop(frontend: Option<State>) -> State {
    if frontend == Some(State::Closing) { State::Closing } else { State::Closed }
}

#[cfg(test)]
mod tests {
    use super::*;
    use State::{Closed, Closing, Connected, InitWait, Initialising};

    fn view(online: bool, state: State, frontend: Option<State>) -> XenbusView {
        XenbusView { backend: Some(BackendNodes { online, state }), frontend }
    }

    #[test]
    fn a_new_controller_is_advertised_connected_and_closed() {
        let at = |phase, state, frontend| next(phase, view(true, state, Some(frontend)));
        assert_eq!(at(Phase::Idle, Initialising, Initialising), Action::Advertise);
        assert_eq!(at(Phase::Waiting, InitWait, Initialising), Action::Nothing);
        assert_eq!(at(Phase::Waiting, InitWait, Connected), Action::Connect);
        assert_eq!(at(Phase::Running, Connected, Connected), Action::Nothing);
        assert_eq!(at(Phase::Running, Connected, Closing), Action::Stop);
        assert_eq!(state_after_stop(Some(Closing)), Closing);
        assert_eq!(at(Phase::Idle, Closing, Closed), Action::WriteClosed);
    }

    #[test]
    fn removal_waits_for_the_guest_unless_the_guest_is_gone() {
        let at = |phase, frontend| next(phase, view(false, Closing, frontend));
        assert_eq!(at(Phase::Running, Some(Connected)), Action::Nothing);
        assert_eq!(at(Phase::Running, Some(Closed)), Action::Stop);
        assert_eq!(at(Phase::Running, None), Action::Stop);
        assert_eq!(at(Phase::Waiting, Some(Initialising)), Action::WriteClosed);
        assert_eq!(at(Phase::Idle, Some(Connected)), Action::WriteClosed);
        let gone = XenbusView { backend: None, frontend: Some(Connected) };
        assert_eq!(next(Phase::Running, gone), Action::Stop);
        assert_eq!(next(Phase::Idle, gone), Action::Forget);
    }

    #[test]
    fn a_guest_that_reconnects_finds_the_backend_waiting() {
        assert_eq!(next(Phase::Running, view(true, Connected, Some(Initialising))), Action::Stop);
        assert_eq!(state_after_stop(Some(Initialising)), Closed);
        assert_eq!(next(Phase::Idle, view(true, Closed, Some(Initialising))), Action::Advertise);
        assert_eq!(next(Phase::Idle, view(false, Closed, Some(Initialising))), Action::Nothing);
    }

    #[test]
    fn a_controller_of_a_killed_backend_is_closed_and_not_resumed() {
        assert_eq!(next(Phase::Idle, view(true, Connected, Some(Connected))), Action::CloseStale);
        assert_eq!(next(Phase::Idle, view(true, Closing, Some(Connected))), Action::Nothing);
        assert_eq!(next(Phase::Idle, view(true, Closing, Some(Closed))), Action::WriteClosed);
        assert_eq!(
            next(Phase::Idle, view(true, InitWait, Some(Initialising))),
            Action::AlreadyAdvertised
        );
    }
}
