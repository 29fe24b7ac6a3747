//! Arbitrary descriptors: no panic, nothing parsed that was not in the input, and no speed that is
//! faster than the device's own or that the rule forbids.
//!
//! ```text
//! cd crates/host && mkdir -p fuzz/corpus/descriptors
//! RUSTC_BOOTSTRAP=1 cargo fuzz run descriptors fuzz/corpus/descriptors fuzz/seeds -- -max_total_time=60
//! ```

#![no_main]

use libfuzzer_sys::fuzz_target;
use vusb_host::descriptors::{Descriptors, TransferType, parse};
use vusb_host::speeds::presentable;
use vusb_model::speed::{Speed, SpeedSet};

/// The minimum number of bytes that these descriptors occupy.
fn min_length(descriptors: &Descriptors) -> usize {
    let settings = descriptors.configurations.iter().flat_map(|it| &it.settings);
    let settings = settings.map(|it| 9 + 7 * it.endpoints.len());
    18 + 9 * descriptors.configurations.len() + settings.sum::<usize>()
}

/// Whether an endpoint is isochronous, and no interface is a SCSI disk.
fn isochronous(descriptors: &Descriptors) -> bool {
    let settings = || descriptors.configurations.iter().flat_map(|it| &it.settings);
    let disk = settings().any(|it| it.class == 8 && it.subclass == 6);
    let mut endpoints = settings().flat_map(|it| &it.endpoints);
    !disk && endpoints.any(|it| it.transfer == TransferType::Isochronous)
}

fuzz_target!(|input: &[u8]| {
    let parsed = parse(input);
    if let Err(error) = &parsed {
        assert!(error.offset <= input.len());
        assert!(!error.to_string().is_empty());
    }
    let parsed = parsed.ok();
    for native in Speed::ALL {
        let speeds = presentable(native, parsed.as_ref());
        assert_eq!(speeds.fastest(), Some(native));
        if parsed.as_ref().is_none_or(isochronous) {
            assert_eq!(speeds, SpeedSet::from(native));
        }
    }
    if let Some(descriptors) = &parsed {
        assert!(min_length(descriptors) <= input.len());
        for configuration in &descriptors.configurations {
            assert!(descriptors.configuration(configuration.value).is_some());
        }
    }
});
