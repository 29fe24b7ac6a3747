module github.com/vusb/vusb/bindings/go

go 1.19
