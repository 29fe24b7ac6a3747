//! Whatever a device says of itself: no panic, nothing read that was not there, and never offered at a speed that is
//! faster than its own or that the rule forbids.
//!
//! ```text
//! cd crates/host && mkdir -p fuzz/corpus/descriptors
//! RUSTC_BOOTSTRAP=1 cargo fuzz run descriptors fuzz/corpus/descriptors fuzz/seeds -- -max_total_time=60
//! ```

#![no_main]

use libfuzzer_sys::fuzz_target;
use vusb_host::descriptors::{Descriptors, Transfer, parse};
use vusb_host::speeds::offered;
use vusb_model::speed::{Speed, SpeedSet};

/// How many bytes the descriptors that were found take at the least.
fn least(descriptors: &Descriptors) -> usize {
    let settings = descriptors.configurations.iter().flat_map(|it| &it.settings);
    let settings = settings.map(|it| 9 + 7 * it.endpoints.len());
    18 + 9 * descriptors.configurations.len() + settings.sum::<usize>()
}

/// Whether an endpoint outside a SCSI disk is isochronous.
fn isochronous(descriptors: &Descriptors) -> bool {
    let settings = || descriptors.configurations.iter().flat_map(|it| &it.settings);
    let disk = settings().any(|it| it.class == 8 && it.subclass == 6);
    let mut endpoints = settings().flat_map(|it| &it.endpoints);
    !disk && endpoints.any(|it| it.transfer == Transfer::Isochronous)
}

fuzz_target!(|input: &[u8]| {
    let parsed = parse(input);
    if let Err(error) = &parsed {
        assert!(error.offset <= input.len());
        assert!(!error.to_string().is_empty());
    }
    let parsed = parsed.ok();
    for native in Speed::ALL {
        let speeds = offered(native, parsed.as_ref());
        assert_eq!(speeds.fastest(), Some(native));
        if parsed.as_ref().is_none_or(isochronous) {
            assert_eq!(speeds, SpeedSet::from(native));
        }
    }
    if let Some(descriptors) = &parsed {
        assert!(least(descriptors) <= input.len());
        for configuration in &descriptors.configurations {
            assert!(descriptors.configuration(configuration.value).is_some());
        }
    }
});
