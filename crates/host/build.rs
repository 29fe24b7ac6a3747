//! Writes the names of the USB ID database as two sorted texts, for `src/database.rs`.
//!
//! The crate `usb-ids` contains them as structures with pointers. In a position-independent program
//! each pointer is relocated at every start. These relocations took most of the start-up time of
//! `vusb`, and more than 1 MB of the program (`docs/benchmarks.md`). A text needs no relocation.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::{env, fs};

use usb_ids::FromId as _;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?;
    let mut vendors = BTreeMap::new();
    let mut products = BTreeMap::new();
    for vendor in (0..=u16::MAX).filter_map(usb_ids::Vendor::from_id) {
        vendors.insert(format!("{:04x}", vendor.id()), vendor.name());
        for product in vendor.devices() {
            products.insert(format!("{:04x}{:04x}", vendor.id(), product.id()), product.name());
        }
    }
    write(&Path::new(&folder).join("vendors"), &vendors)?;
    write(&Path::new(&folder).join("products"), &products)?;
    println!("cargo::rerun-if-changed=build.rs");
    Ok(())
}

/// Writes a line for each entry, sorted by the ID.
fn write(path: &Path, entries: &BTreeMap<String, &str>) -> Result<(), Box<dyn Error>> {
    let mut text = String::new();
    for (id, name) in entries {
        if name.contains('\n') {
            return Err(format!("the name of {id} has more than one line").into());
        }
        text.push_str(&format!("{id} {name}\n"));
    }
    Ok(fs::write(path, text)?)
}
