// SPDX-License-Identifier: MIT OR Apache-2.0

// Package vusb gives virtual machines USB controllers and devices, through libvusb.
package vusb

/*
#cgo pkg-config: vusb
#include <stdlib.h>
#include <string.h>
#include <vusb.h>
*/
import "C"

import (
	"encoding/json"
	"unsafe"
)

// Error describes a failed call. Code is the exit code of the command vusb, negated.
type Error struct {
	Code    int
	Message string
	Hint    string
}

func (e *Error) Error() string { return e.Message }

// ExitCode is the exit code of a program that ends with this error.
func (e *Error) ExitCode() int { return int(C.vusb_exit_code(C.int(e.Code))) }

// Vusb is the library. Any number of goroutines may use it at once.
type Vusb struct{ handle *C.vusb }

// Controller is a controller of a domain. AddController chooses each field that is zero, and always
// chooses the index.
type Controller struct {
	Name       string
	USBVersion int
	NumPorts   int
	Index      int
	Model      string
}

// Device is a device of a domain. State is only set in a list.
type Device struct {
	Name, What, Controller, Port, State string
}

func failed(code C.int, failure *C.vusb_error) error {
	if code >= 0 {
		return nil
	}
	defer C.vusb_error_free(failure)
	message, hint := C.vusb_error_message(failure), C.vusb_error_hint(failure)
	return &Error{int(code), C.GoString(message), C.GoString(hint)}
}

// Options are locations, as absolute paths. An empty path is the default.
type Options struct{ StateDir, ClaimsDir, RulesDir, HostRoot string }

// copied makes a copy in C memory, which the library may release; nil for an empty text.
func copied(text string) *C.char {
	if text == "" {
		return nil
	}
	return C.CString(text)
}

// Open creates a handle, which Close releases.
func Open(options Options) (*Vusb, error) {
	var o C.vusb_options
	o.state_dir, o.claims_dir = copied(options.StateDir), copied(options.ClaimsDir)
	o.rules_dir, o.host_root = copied(options.RulesDir), copied(options.HostRoot)
	for _, text := range []*C.char{o.state_dir, o.claims_dir, o.rules_dir, o.host_root} {
		defer C.free(unsafe.Pointer(text))
	}
	var v Vusb
	var failure *C.vusb_error
	code := C.vusb_open(&o, &v.handle, &failure)
	return &v, failed(code, failure)
}

// Close releases the handle. No call may be using it.
func (v *Vusb) Close() { C.vusb_close(v.handle) }

// Call calls a method of io.github.vusb.Manager.
func (v *Vusb) Call(method string, parameters, reply interface{}) error {
	in, err := json.Marshal(parameters)
	if err != nil {
		return err
	}
	name, text := C.CString(method), C.CString(string(in))
	defer C.free(unsafe.Pointer(name))
	defer C.free(unsafe.Pointer(text))
	var out *C.char
	var failure *C.vusb_error
	code := C.vusb_call(v.handle, name, text, nil, &out, &failure)
	if err := failed(code, failure); err != nil {
		return err
	}
	defer C.vusb_free(unsafe.Pointer(out))
	return json.Unmarshal([]byte(C.GoString(out)), reply)
}

// AddController adds a controller, and returns it with what was chosen.
func (v *Vusb) AddController(domain string, wanted Controller) (Controller, error) {
	var c C.vusb_controller
	C.vusb_controller_init(&c)
	defer C.vusb_controller_dispose(&c)
	c.name, c.model = copied(wanted.Name), copied(wanted.Model)
	c.usbversion, c.numports = C.int(wanted.USBVersion), C.int(wanted.NumPorts)
	where := C.CString(domain)
	defer C.free(unsafe.Pointer(where))
	var failure *C.vusb_error
	code := C.vusb_controller_add(v.handle, where, &c, nil, &failure)
	if err := failed(code, failure); err != nil {
		return wanted, err
	}
	return Controller{C.GoString(c.name), int(c.usbversion), int(c.numports), int(c.index), C.GoString(c.model)}, nil
}

// AddDevice attaches a device, and returns it with what was chosen.
func (v *Vusb) AddDevice(domain string, wanted Device) (Device, error) {
	var d C.vusb_device
	C.vusb_device_init(&d)
	defer C.vusb_device_dispose(&d)
	d.name, d.what = copied(wanted.Name), copied(wanted.What)
	d.controller, d.port = copied(wanted.Controller), copied(wanted.Port)
	where := C.CString(domain)
	defer C.free(unsafe.Pointer(where))
	var failure *C.vusb_error
	code := C.vusb_device_add(v.handle, where, &d, nil, &failure)
	if err := failed(code, failure); err != nil {
		return wanted, err
	}
	return device(&d), nil
}

func device(d *C.vusb_device) Device {
	return Device{C.GoString(d.name), C.GoString(d.what), C.GoString(d.controller), C.GoString(d.port), C.GoString(d.state)}
}

// Devices lists the devices of a domain.
func (v *Vusb) Devices(domain string) ([]Device, error) {
	where := C.CString(domain)
	defer C.free(unsafe.Pointer(where))
	var list *C.vusb_device
	var count C.size_t
	var failure *C.vusb_error
	code := C.vusb_device_list(v.handle, where, &list, &count, nil, &failure)
	if err := failed(code, failure); err != nil {
		return nil, err
	}
	defer C.vusb_device_list_free(list, count)
	var devices []Device
	for _, d := range unsafe.Slice(list, int(count)) {
		d := d
		devices = append(devices, device(&d))
	}
	return devices, nil
}
