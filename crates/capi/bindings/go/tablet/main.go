// SPDX-License-Identifier: MIT OR Apache-2.0

// Command tablet gives a simulated guest in a folder a controller and a tablet.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/vusb/vusb/bindings/go/vusb"
)

func run(folder string) error {
	v, err := vusb.Open(vusb.Options{
		StateDir: folder + "/state", ClaimsDir: folder + "/claims", RulesDir: folder + "/rules", HostRoot: folder,
	})
	if err != nil {
		return err
	}
	defer v.Close()
	vm := "sim:" + folder + "/vm"
	hci, err := v.AddController(vm, vusb.Controller{})
	if err != nil {
		return err
	}
	fmt.Println(hci.Name, hci.Model, hci.NumPorts)
	if _, err := v.AddDevice(vm, vusb.Device{What: "tablet", Controller: hci.Name}); err != nil {
		return err
	}
	devices, err := v.Devices(vm)
	if err != nil {
		return err
	}
	for _, it := range devices {
		fmt.Printf("%s:%s %s %s\n", it.Controller, it.Port, it.What, it.State)
	}
	var failure *vusb.Error
	err = v.Call("Describe", map[string]string{"domain": "nosuch"}, &struct{}{})
	if !errors.As(err, &failure) {
		return fmt.Errorf("no error: %v", err)
	}
	fmt.Println("not found:", failure.ExitCode())
	return nil
}

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "tablet:", err)
		os.Exit(1)
	}
}
