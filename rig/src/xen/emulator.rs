//! A QEMU bug that the tests have to handle.

/// Xen's message about a triple fault of a guest.
const FAULT: &str = "Triple fault - invoking HVM shutdown";
/// The maximum distance from that line to the registers, in lines.
const DUMP: usize = 8;

/// Whether Xen's console reports a triple fault of a guest.
///
/// During the boot of a guest that only the rig has used, the cause is the emulated processor: the
/// same kernel, image and memory boot in nearly every other run (seen once, with an HVM guest and
/// Linux's registers). For a guest that has booted, use [`is_guest_lost`].
pub(super) fn has_triple_fault(console: &str) -> bool {
    console.contains(FAULT)
}

/// Whether Xen's console reports that the emulated processor has lost a hardware-assisted guest.
///
/// QEMU's software emulation of SVM (7.2; seen in 3 of 55 runs of a PVH guest) sometimes continues
/// in Xen's code as if the guest were still running. Xen then reports a triple fault of the guest,
/// and its own registers as the guest's: the code selector is `e008` (`__HYPERVISOR_CS`,
/// `xen/arch/x86/include/asm/config.h`). Linux has other selectors (`0010`, `0033`), so a guest
/// that causes a fault itself is not reported here.
pub fn is_guest_lost(console: &str) -> bool {
    let lines: Vec<&str> = console.lines().collect();
    let fault = |line: &&str| line.contains(FAULT);
    let of_xen = |line: &&str| line.starts_with("(XEN) RIP:") && line.contains(" e008:[");
    lines
        .iter()
        .enumerate()
        .any(|(at, line)| fault(line) && lines.iter().skip(at).take(DUMP).any(of_xen))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOST: &str = "(XEN) d1v0 Triple fault - invoking HVM shutdown action 1\r\n\
                        (XEN) *** Dumping Dom1 vcpu#0 state: ***\r\n\
                        (XEN) ----[ Xen-4.17.7  x86_64  debug=n  Not tainted ]----\r\n\
                        (XEN) CPU:    0\r\n\
                        (XEN) RIP:    e008:[<ffff82d0402044a5>]\r\n";

    #[test]
    fn a_guest_with_the_code_selector_of_xen_was_lost() {
        assert!(is_guest_lost(LOST));
        assert!(is_guest_lost(&format!(
            "[    7.5] rig: drivers loaded\r\n{LOST}(XEN) RFLAGS: 246\r\n"
        )));
    }

    #[test]
    fn a_guest_that_causes_a_fault_was_not_lost() {
        let own_fault = LOST.replace("e008", "0010");
        assert!(has_triple_fault(&own_fault));
        assert!(!is_guest_lost(&own_fault));
        assert!(!is_guest_lost("(XEN) RIP:    e008:[<ffff82d0402044a5>]\n"));
        assert!(!is_guest_lost(""));
    }
}
