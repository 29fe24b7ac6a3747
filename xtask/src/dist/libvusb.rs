//! libvusb: the shared and the static library, the header and the pkg-config file; and its
//! packages.
//!
//! `cargo deb` makes packages of programs. A library needs more of Debian's control files
//! (`shlibs`, `symbols`, a trigger for ldconfig), and two packages from one crate, so `dpkg-deb`
//! writes these.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use vusb_rig::command::finish;
use vusb_rig::libvusb::{ABI, Layout, install};

use super::build::{Build, PROFILE};
use super::{Package, files, stage};
use crate::cargo::{Result, run};

/// The version of the library.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The crate.
const KRATE: &str = "vusb-capi";

/// The package that programs need when they run.
const RUNTIME: Package = Package {
    name: "libvusb0",
    krate: KRATE,
    pages: &[],
    docs: &["docs/libvusb.md"],
    is_command: false,
};

/// The package that is needed to compile programs.
const DEVELOPMENT: Package = Package {
    name: "libvusb-dev",
    krate: KRATE,
    pages: &[],
    docs: &[
        "docs/libvusb.md",
        "crates/capi/examples/stick.c",
        "crates/capi/bindings/python/vusb.py",
    ],
    is_command: false,
};

/// Builds the library and installs it below `out`, for the prefix `/usr/local`. With `packages`,
/// also writes its packages there. Nothing else there is changed.
pub(crate) fn install_into(out: &Path, packages: bool) -> Result<()> {
    let build = Build::of_workspace()?;
    compile(&build)?;
    write_below(&build, out)?;
    if packages {
        vusb_rig::packages::ensure_all(&["dpkg-dev"])?;
        debs(&build, None, out)?;
    }
    for path in files(out)? {
        println!("{:>9} KB  {}", fs::metadata(&path)?.len().div_ceil(1024), path.display());
    }
    Ok(())
}

/// Builds the static library. The list of its dependencies is not embedded: cargo links no program.
pub(super) fn compile(build: &Build) -> Result<()> {
    println!("+ cargo build --profile {PROFILE} --package {KRATE} --lib");
    let cargo = PathBuf::from(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let mut command = build.command(&cargo);
    command.args(["build", "--locked", "--profile", PROFILE, "--package", KRATE, "--lib"]);
    run(&mut command)
}

/// Installs the compiled library below `out`, for the prefix `/usr/local`.
pub(super) fn write_below(build: &Build, out: &Path) -> Result<()> {
    write(build, &Layout { prefix: "/usr/local", libdir: "lib", strip: true }, out)
}

fn write(build: &Build, layout: &Layout<'_>, out: &Path) -> Result<()> {
    let archive = build.programs_dir().join("libvusb_capi.a");
    Ok(install(&build.source.join("crates/capi"), &archive, VERSION, layout, out)?)
}

/// Writes the packages of the compiled library to `out`, with another version if one is given.
pub(super) fn debs(build: &Build, version: Option<&str>, out: &Path) -> Result<()> {
    let version = version.map_or_else(|| format!("{VERSION}-1"), str::to_owned);
    let libdir = format!("lib/{}", ask("dpkg-architecture", &["-q", "DEB_HOST_MULTIARCH"])?);
    let whole = build.stage_dir("libvusb");
    remove(&whole)?;
    write(build, &Layout { prefix: "/usr", libdir: &libdir, strip: true }, &whole)?;
    for package in [&RUNTIME, &DEVELOPMENT] {
        let root = build.stage_dir(package.name);
        remove(&root)?;
        let doc = root.join("usr/share/doc").join(package.name);
        stage::documentation(build, package, &doc)?;
        stage::copy(&build.source.join("packaging/debian/copyright"), &doc.join("copyright"))?;
    }
    let moves = [
        (&RUNTIME, format!("{libdir}/libvusb.so.{VERSION}")),
        (&RUNTIME, format!("{libdir}/libvusb.so.{ABI}")),
        (&DEVELOPMENT, format!("{libdir}/libvusb.so")),
        (&DEVELOPMENT, format!("{libdir}/libvusb.a")),
        (&DEVELOPMENT, format!("{libdir}/pkgconfig/vusb.pc")),
        (&DEVELOPMENT, "include/vusb.h".to_owned()),
    ];
    for (package, file) in moves {
        let to = build.stage_dir(package.name).join("usr").join(&file);
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::rename(whole.join(&file), to)?;
    }
    remove(&whole)?;
    let library = build.stage_dir(RUNTIME.name).join("usr").join(&libdir);
    let needs = dependencies(&library.join(format!("libvusb.so.{VERSION}")))?;
    let runtime = runtime_control(build)?;
    deb(build, &RUNTIME, &version, &needs, &runtime, out)?;
    let exact = format!("{} (= {version})", RUNTIME.name);
    deb(build, &DEVELOPMENT, &version, &exact, &[], out)
}

/// The control files of a shared library: deb-shlibs(5), deb-symbols(5), deb-triggers(5).
fn runtime_control(build: &Build) -> Result<[(&'static str, String); 3]> {
    let map = fs::read_to_string(build.source.join("crates/capi/libvusb.map"))?;
    let mut symbols = format!("libvusb.so.{ABI} {} #MINVER#\n", RUNTIME.name);
    let mut node = "";
    for line in map.lines().map(str::trim) {
        if let Some(name) = line.strip_suffix(" {") {
            node = name;
            symbols.push_str(&format!(" {node}@{node} {}\n", node.trim_start_matches("VUSB_")));
        } else if let Some(name) = line.strip_suffix(';').filter(|it| it.starts_with("vusb_")) {
            symbols.push_str(&format!(" {name}@{node} {}\n", node.trim_start_matches("VUSB_")));
        }
    }
    Ok([
        ("shlibs", format!("libvusb {ABI} {} (>= 0.1)\n", RUNTIME.name)),
        ("symbols", symbols),
        ("triggers", "activate-noawait ldconfig\n".to_owned()),
    ])
}

/// The packages that a shared library needs.
fn dependencies(library: &Path) -> Result<String> {
    let folder = tempfile::tempdir()?;
    fs::create_dir(folder.path().join("debian"))?;
    fs::write(
        folder.path().join("debian/control"),
        "Source: vusb\n\nPackage: libvusb0\nArchitecture: any\n",
    )?;
    let mut command = Command::new("dpkg-shlibdeps");
    command.arg("-O").arg(format!("-e{}", library.display())).current_dir(folder.path());
    let text = finish(command)?;
    let found = text.trim().strip_prefix("shlibs:Depends=");
    Ok(found.ok_or("dpkg-shlibdeps has found no dependencies")?.to_owned())
}

/// Writes a package of the files in its folder.
fn deb(
    build: &Build,
    package: &Package,
    version: &str,
    depends: &str,
    more: &[(&str, String)],
    out: &Path,
) -> Result<()> {
    let root = build.stage_dir(package.name);
    let all = files(&root)?;
    let mut sums = String::new();
    let mut bytes = 0;
    for path in &all {
        let metadata = fs::symlink_metadata(path)?;
        bytes += metadata.len();
        if metadata.is_file() {
            let sum = ask("md5sum", &[&path.display().to_string()])?;
            let sum = sum.split_whitespace().next().unwrap_or_default();
            sums.push_str(&format!("{sum}  {}\n", path.strip_prefix(&root)?.display()));
        }
    }
    let is_runtime = package.name == RUNTIME.name;
    let (section, summary, description) = if is_runtime {
        (
            "libs",
            "USB for virtual machines: shared library",
            "programs that use it need when they run",
        )
    } else {
        ("libdevel", "USB for virtual machines: development files", "compiling programs needs")
    };
    let architecture = ask("dpkg", &["--print-architecture"])?;
    let control = format!(
        "Package: {}\nSource: vusb\nVersion: {version}\nArchitecture: {architecture}\nMulti-Arch: same\n\
         Maintainer: {}\nSection: {section}\nPriority: optional\nInstalled-Size: {}\nDepends: {depends}\n\
         Homepage: https://github.com/vusb/vusb\nDescription: {summary}\n \
         libvusb gives virtual machines USB controllers and devices, on QEMU,\n libvirt and Xen.\n \
         This package has what {description}.\n",
        package.name,
        stage::MAINTAINER,
        bytes.div_ceil(1024),
    );
    let folder = root.join("DEBIAN");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("control"), control)?;
    fs::write(folder.join("md5sums"), sums)?;
    for (name, text) in more {
        fs::write(folder.join(name), text)?;
    }
    println!("+ dpkg-deb --build {}", package.name);
    let file = out.join(format!("{}_{version}_{architecture}.deb", package.name));
    let mut command = build.command(Path::new("dpkg-deb"));
    command.args(["--root-owner-group", "-Zxz", "--build"]).arg(&root).arg(absolute(&file)?);
    finish(command).map(drop)?;
    Ok(fs::remove_dir_all(folder)?)
}

fn absolute(path: &Path) -> Result<PathBuf> {
    Ok(std::path::absolute(path)?)
}

fn remove(folder: &Path) -> Result<()> {
    if folder.exists() { Ok(fs::remove_dir_all(folder)?) } else { Ok(()) }
}

fn ask(program: &str, args: &[&str]) -> Result<String> {
    Ok(vusb_rig::command::run(program, args)?.trim().to_owned())
}
