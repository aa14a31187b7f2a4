//! OVMF on this host, and the variables of a server.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use vmspec::{Firmware, SecureBoot, ServerDirectory, VmSpec};

/// Code and template of the variables, as Debian and Ubuntu, Fedora, and Arch name them. Of Debian's, those of 4 MiB are of
/// this decade.
const PLAIN: [(&str, &str); 4] = [
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
    ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),
];
/// Built to keep its variables behind system management mode, with a template that has Microsoft's keys enrolled.
const SECURE: [(&str, &str); 3] = [
    ("/usr/share/OVMF/OVMF_CODE_4M.secboot.fd", "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"),
    ("/usr/share/OVMF/OVMF_CODE.secboot.fd", "/usr/share/OVMF/OVMF_VARS.ms.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.secboot.fd", "/usr/share/edk2/ovmf/OVMF_VARS.secboot.fd"),
];
/// Of the server. Those of one kind of firmware are none to the other.
const VARIABLES: &str = "uefi-vars.fd";
const SECURE_VARIABLES: &str = "uefi-vars-secure.fd";

/// UEFI firmware, open: its code, and the variables of this server.
#[derive(Debug)]
pub struct UefiFiles {
    pub code: OwnedFd,
    pub variables: OwnedFd,
    pub secure: bool,
}

/// Whether this server boots by UEFI.
pub fn wants_uefi(spec: &VmSpec) -> bool {
    spec.firmware == Firmware::Uefi
}

fn find(places: &[(&str, &str)]) -> Option<(PathBuf, PathBuf)> {
    let exist = |(code, variables): &(&str, &str)| Path::new(code).is_file() && Path::new(variables).is_file();
    places.iter().find(|place| exist(place)).map(|(code, variables)| (code.into(), variables.into()))
}

/// The firmware for a server, of what there is without and with Secure Boot; and whether it is the one that enforces it.
fn choose<T>(secure_boot: SecureBoot, plain: Option<T>, secure: Option<T>) -> Result<(T, bool), &'static str> {
    match (secure_boot, plain, secure) {
        (SecureBoot::Optional | SecureBoot::Required, _, Some(secure)) => Ok((secure, true)),
        (SecureBoot::Required, _, None) => {
            Err("this server requires Secure Boot, and no OVMF with it is on this host (package ovmf)")
        }
        (_, Some(plain), _) => Ok((plain, false)),
        (_, None, _) => Err("this server boots by UEFI, and no OVMF is on this host (package ovmf)"),
    }
}

/// OVMF's code, and this server's copy of its variables, made at its first start.
pub fn open(directory: &ServerDirectory, spec: &VmSpec) -> Result<UefiFiles, String> {
    let ((code, template), secure) = choose(spec.secure_boot, find(&PLAIN), find(&SECURE))?;
    let code = File::open(&code).map_err(|error| format!("cannot open {}: {error}", code.display()))?;
    let name = if secure { SECURE_VARIABLES } else { VARIABLES };
    let variables = (|| {
        if !directory.file(name).exists() {
            directory.replace(name, &fs::read(&template)?, true)?;
        }
        crate::vm_process::open_own(directory, name)
    })();
    let variables = variables.map_err(|error| format!("cannot open the UEFI variables: {error}"))?;
    Ok(UefiFiles { code: code.into(), variables: variables.into(), secure })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secure_boot_is_kept_where_it_is_required_and_had_where_it_can_be() {
        use SecureBoot::{Disabled, Optional, Required};
        let (plain, secure) = (Some("plain"), Some("secure"));
        assert_eq!(choose(Disabled, plain, secure), Ok(("plain", false)));
        assert_eq!(choose(Optional, plain, secure), Ok(("secure", true)));
        assert_eq!(choose(Optional, plain, None), Ok(("plain", false)));
        assert_eq!(choose(Required, None, secure), Ok(("secure", true)));
        assert!(choose(Required, plain, None).unwrap_err().contains("Secure Boot"));
        for secure_boot in [Disabled, Optional] {
            assert!(choose(secure_boot, None::<&str>, None).unwrap_err().contains("package ovmf"));
        }
        assert!(choose(Disabled, None, secure).is_err());
    }
}
