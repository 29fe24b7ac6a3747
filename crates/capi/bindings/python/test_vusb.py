"""python3 test_vusb.py LIBRARY FOLDER: tests the module on a simulated hypervisor."""

import os
import select
import sys
import threading
from typing import Callable

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True

import vusb  # noqa: E402


def error_of(call: Callable[..., object], *arguments: object, **more: object) -> vusb.Error:
    try:
        call(*arguments, **more)
    except vusb.Error as error:
        return error
    raise AssertionError("no error")


def main(library: str, folder: str) -> None:
    os.mkdir(f"{folder}/guests")
    vm = f"sim:{folder}/guests/vm"
    with vusb.Vusb(f"{folder}/state", f"{folder}/claims", f"{folder}/rules", folder, library) as v:
        events = v.watch([f"sim:{folder}/guests"])
        hci = v.controller_add(vm, usbversion=3, numports=4)
        assert hci == vusb.Controller("hci0", "emulated", 3, 4, 0, "nec-xhci", None, None), hci
        tablet = v.device_add(vm, "tablet", controller="hci0")
        assert (tablet.port, tablet.bus) == ("1", 0), tablet
        [listed] = v.device_list(vm)
        assert (listed.name, listed.what, listed.state) == (tablet.name, "tablet", "attached"), listed
        assert error_of(v.controller_remove, vm, "hci0").code == -4
        select.select([events], [], [], 30)
        assert any(it["event"] == "guest-started" and it["domain"] == vm for it in events)

        error = error_of(v.call, "Describe", {"domain": "nosuch"})
        assert error.code == -3 and "nosuch" in error.message and error.hint, error
        assert error.detail["error"] == "io.github.vusb.Manager.NotFound"
        assert error_of(v.call, "Fly").code == -2
        assert v.call("Describe", {"domain": vm})["domains"][0]["controllers"][0]["name"] == "hci0"
        cancel = vusb.Cancel(v)
        cancel.trigger()
        assert "cancelled" in error_of(v.device_add, vm, "mouse", how=vusb.How(cancel=cancel)).message
        v.device_add(vm, "mouse", how=vusb.How(vusb.DRY_RUN, wait=1.5))
        assert len(v.device_list(vm)) == 1

        threads = [threading.Thread(target=v.device_list, args=(vm,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        v.device_remove(vm, tablet.name)
        v.controller_remove(vm, "hci0", destroy=True)
        assert v.controller_list(vm) == []
        events.close()
    print("ok")


main(sys.argv[1], sys.argv[2])
