//! The PVUSB wire protocol (usbif).

#![forbid(unsafe_code)]
