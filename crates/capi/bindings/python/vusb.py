# SPDX-License-Identifier: MIT OR Apache-2.0
"""USB for virtual machines: libvusb for Python 3.9 and later, without dependencies.

    with vusb.Vusb() as v:
        hci = v.controller_add("qemu:/run/web1.qmp", usbversion=3)
        stick = v.device_add("qemu:/run/web1.qmp", "storage:/srv/stick.img", controller=hci.name)
        print(f"{stick.controller}:{stick.port}")

Vusb.call calls any method of io.github.vusb.Manager. Failures are raised as Error.
"""

from __future__ import annotations

import ctypes
import json
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_uint, c_void_p
from dataclasses import dataclass
from typing import Any, Callable, Iterator, Optional, Sequence, TypeVar

DRY_RUN, FORCE, NOW, NEXT, WHEN_THERE = 1, 2, 4, 8, 16
TYPES = {"auto": 0, "pv": 1, "emulated": 2}
_TYPE_NAMES = {number: name for name, number in TYPES.items()}
_T = TypeVar("_T")


class Error(Exception):
    """A call has failed. `code` is the exit code of the command vusb, negated."""

    def __init__(self, code: int, message: str, hint: Optional[str], detail: dict[str, Any]) -> None:
        super().__init__(message)
        self.code, self.message, self.hint, self.detail = code, message, hint, detail


@dataclass(frozen=True)
class Controller:
    """A controller of a domain. `state` is only set in a list."""

    name: str
    type: str
    usbversion: int
    numports: int
    index: int
    model: str
    backend: Optional[str]
    state: Optional[str]


@dataclass(frozen=True)
class Device:
    """A device of a domain. `state` is only set in a list."""

    name: str
    what: str
    controller: str
    port: str
    bus: int
    state: Optional[str]


class _Options(ctypes.Structure):
    _fields_ = [
        ("state_dir", c_char_p),
        ("claims_dir", c_char_p),
        ("rules_dir", c_char_p),
        ("host_root", c_char_p),
        ("reserved", c_void_p * 4),
    ]


class _How(ctypes.Structure):
    _fields_ = [("flags", c_uint), ("wait_ms", c_int), ("deadline_ms", c_int), ("folder", c_char_p), ("cancel", c_void_p)]


class _Controller(ctypes.Structure):
    _fields_ = [
        ("name", c_void_p),
        ("type", c_int),
        ("usbversion", c_int),
        ("numports", c_int),
        ("index", c_int),
        ("model", c_void_p),
        ("backend", c_void_p),
        ("state", c_void_p),
    ]


class _Device(ctypes.Structure):
    _fields_ = [
        ("name", c_void_p),
        ("what", c_void_p),
        ("controller", c_void_p),
        ("port", c_void_p),
        ("bus", c_int),
        ("state", c_void_p),
    ]


def _text(pointer: Optional[int]) -> Optional[str]:
    return None if not pointer else ctypes.string_at(pointer).decode()


def _controller(it: _Controller) -> Controller:
    numbers = (_TYPE_NAMES[it.type], it.usbversion, it.numports, it.index)
    return Controller(_text(it.name) or "", *numbers, _text(it.model) or "", _text(it.backend), _text(it.state))


def _device(it: _Device) -> Device:
    name, what, controller, port = (_text(text) or "" for text in (it.name, it.what, it.controller, it.port))
    return Device(name, what, controller, port, it.bus, _text(it.state))


def _encoded(text: Optional[str]) -> Optional[bytes]:
    if text is not None and "\0" in text:
        raise ValueError("a text contains NUL")
    return None if text is None else text.encode()


class Cancel:
    """Cancels calls from another thread."""

    def __init__(self, owner: Vusb) -> None:
        self._lib = owner._lib
        self._pointer = self._lib.vusb_cancel_new()

    def trigger(self) -> None:
        """Cancels all calls that use this value, now and later."""
        self._lib.vusb_cancel_trigger(self._pointer)

    def __del__(self) -> None:
        self._lib.vusb_cancel_free(self._pointer)


@dataclass(frozen=True)
class How:
    """How a call is carried out. Times are in seconds; 0 is the default of the library."""

    flags: int = 0
    wait: float = 0
    deadline: float = 0
    folder: Optional[str] = None
    cancel: Optional[Cancel] = None

    def _struct(self) -> _How:
        cancel = self.cancel._pointer if self.cancel else None
        return _How(self.flags, int(self.wait * 1000), int(self.deadline * 1000), _encoded(self.folder), cancel)


class Events:
    """A watch for guests that start and end. `fileno` is for select and event loops."""

    def __init__(self, owner: Vusb, pointer: c_void_p, fd: int) -> None:
        self._owner, self._pointer, self._fd = owner, pointer, fd

    def fileno(self) -> int:
        return self._fd

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The events that have arrived."""
        while (event := self._owner._next(self._pointer)) is not None:
            yield event

    def close(self) -> None:
        self._owner._lib.vusb_events_close(self._pointer)
        self._pointer = c_void_p()


class Vusb:
    """The library. Any number of threads may use it at once."""

    def __init__(
        self,
        state_dir: Optional[str] = None,
        claims_dir: Optional[str] = None,
        rules_dir: Optional[str] = None,
        host_root: Optional[str] = None,
        library: str = "libvusb.so.0",
    ) -> None:
        self._handle = c_void_p()
        self._lib = ctypes.CDLL(library)
        self._declare()
        folders = [_encoded(it) for it in (state_dir, claims_dir, rules_dir, host_root)]
        self._checked(self._lib.vusb_open, byref(_Options(*folders)), byref(self._handle))

    def _declare(self) -> None:
        for name in ("message", "hint", "json"):
            function = getattr(self._lib, f"vusb_error_{name}")
            function.restype, function.argtypes = c_char_p, [c_void_p]
        self._lib.vusb_cancel_new.restype = c_void_p
        # A function of the C library: ctypes also finds the symbols of a library's dependencies.
        self._lib.strdup.restype, self._lib.strdup.argtypes = c_void_p, [c_char_p]
        for name in ("cancel_trigger", "cancel_free", "error_free", "free", "close", "events_close", "error_code"):
            getattr(self._lib, f"vusb_{name}").argtypes = [c_void_p]
        for kind, struct in (("controller", _Controller), ("device", _Device)):
            getattr(self._lib, f"vusb_{kind}_list_free").argtypes = [POINTER(struct), c_size_t]

    def _checked(self, function: Any, *arguments: Any) -> bool:
        """Calls a function, and raises its error. Returns whether the request was already fulfilled."""
        error = c_void_p()
        result: int = function(*arguments, byref(error))
        if result >= 0:
            return result == 1
        try:
            hint = self._lib.vusb_error_hint(error)
            message = self._lib.vusb_error_message(error).decode()
            detail = json.loads(self._lib.vusb_error_json(error))
            raise Error(result, message, hint.decode() if hint else None, detail)
        finally:
            self._lib.vusb_error_free(error)

    def __enter__(self) -> Vusb:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Releases the handle. No call may be using it."""
        self._lib.vusb_close(self._handle)
        self._handle = c_void_p()

    def _take(self, pointer: c_void_p) -> Any:
        """Parses JSON that the library returned, and releases it."""
        text = _text(pointer.value)
        self._lib.vusb_free(pointer)
        return None if text is None else json.loads(text)

    def call(self, method: str, parameters: Optional[dict[str, Any]] = None, how: How = How()) -> Any:
        """Calls a method. Returns a list for a method that replies several times."""
        out, text = c_void_p(), json.dumps(parameters or {})
        arguments = (_encoded(method), _encoded(text), byref(how._struct()), byref(out))
        self._checked(self._lib.vusb_call, self._handle, *arguments)
        return self._take(out)

    def watch(self, guests: Sequence[str] = ()) -> Events:
        """Watches for guests that start and end. `guests` are additional folders: SCHEME:FOLDER."""
        events, fd = c_void_p(), c_int(-1)
        text = _encoded(json.dumps({"guests": list(guests)}))
        self._checked(self._lib.vusb_watch, self._handle, text, byref(events), byref(fd))
        return Events(self, events, fd.value)

    def _next(self, events: c_void_p) -> Any:
        out = c_void_p()
        self._checked(self._lib.vusb_events_next, events, byref(out))
        reply = self._take(out)
        return None if reply is None else reply["event"]

    def _strdup(self, text: Optional[str]) -> Optional[int]:
        """A copy that the library may release."""
        encoded = _encoded(text)
        if encoded is None:
            return None
        copy: int = self._lib.strdup(encoded)
        return copy

    def _verb(self, verb: str, domain: str, struct: Any, how: How) -> Any:
        """Calls a verb with a structure. Returns the contents of the structure, and releases it."""
        kind = "controller" if isinstance(struct, _Controller) else "device"
        function = getattr(self._lib, f"vusb_{kind}_{verb}")
        try:
            self._checked(function, self._handle, _encoded(domain), byref(struct), byref(how._struct()))
            return _controller(struct) if kind == "controller" else _device(struct)
        finally:
            getattr(self._lib, f"vusb_{kind}_dispose")(byref(struct))

    def _list(self, kind: str, struct: Any, read: Callable[[Any], _T], domain: str, how: How) -> list[_T]:
        items, count = POINTER(struct)(), c_size_t()
        function = getattr(self._lib, f"vusb_{kind}_list")
        arguments = (_encoded(domain), byref(items), byref(count), byref(how._struct()))
        self._checked(function, self._handle, *arguments)
        try:
            return [read(items[number]) for number in range(count.value)]
        finally:
            getattr(self._lib, f"vusb_{kind}_list_free")(items, count)

    def controller_add(
        self,
        domain: str,
        name: Optional[str] = None,
        type: str = "auto",
        usbversion: int = 0,
        numports: int = 0,
        index: int = -1,
        model: Optional[str] = None,
        backend: Optional[str] = None,
        how: How = How(),
    ) -> Controller:
        """Adds a controller. What is left open is chosen."""
        numbers = (TYPES[type], usbversion, numports, index)
        texts = (self._strdup(model), self._strdup(backend))
        added: Controller = self._verb("add", domain, _Controller(self._strdup(name), *numbers, *texts), how)
        return added

    def controller_remove(self, domain: str, name: str, destroy: bool = False, how: How = How()) -> None:
        """Removes a controller; with `destroy`, also its devices."""
        self._verb("destroy" if destroy else "remove", domain, _Controller(self._strdup(name), 0, 0, 0, -1), how)

    def controller_list(self, domain: str, how: How = How()) -> list[Controller]:
        """The controllers of a domain."""
        return self._list("controller", _Controller, _controller, domain, how)

    def device_add(
        self,
        domain: str,
        what: str,
        controller: Optional[str] = None,
        port: Optional[str] = None,
        name: Optional[str] = None,
        how: How = How(),
    ) -> Device:
        """Attaches a device. What is left open is chosen."""
        texts = [self._strdup(it) for it in (name, what, controller, port)]
        added: Device = self._verb("add", domain, _Device(*texts, -1), how)
        return added

    def device_remove(self, domain: str, name: str, how: How = How()) -> None:
        """Detaches a device, by its name."""
        self._verb("remove", domain, _Device(self._strdup(name), None, None, None, -1), how)

    def device_list(self, domain: str, how: How = How()) -> list[Device]:
        """The devices of a domain."""
        return self._list("device", _Device, _device, domain, how)
