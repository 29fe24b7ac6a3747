//! `vusb domain`.

use std::path::PathBuf;

use clap::Subcommand;
use vusb::model::name::Name;

use crate::help;

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum DomainCommand {
    /// Show the recorded domains, and whether their guests run
    #[command(after_help = help::DOMAIN_LIST, aliases = ["ls", "show"])]
    List,
    /// Give a domain another name
    #[command(after_help = help::DOMAIN_RENAME)]
    Rename {
        /// The domain: an address or a recorded name
        domain: String,
        /// The new name
        name: Name,
    },
    /// Print the record of a domain for another machine, as JSON
    #[command(after_help = help::DOMAIN_EXPORT)]
    Export {
        /// The domain: an address or a recorded name
        domain: String,
    },
    /// Read a record from another machine
    #[command(after_help = help::DOMAIN_IMPORT)]
    Import {
        /// The file that `vusb domain export` printed, or /dev/stdin
        file: PathBuf,
        /// The domain that it is for [default: the address that it had there]
        #[arg(long = "as", value_name = "DOMAIN")]
        domain: Option<String>,
        /// Replace the record that the domain has
        #[arg(long)]
        force: bool,
    },
    /// Delete the record of a domain, and its claims
    #[command(after_help = help::DOMAIN_FORGET, aliases = ["delete", "del", "rm"])]
    Forget {
        /// The domain: an address or a recorded name
        domain: String,
        /// Delete it although the guest runs, or may run; the guest keeps what it has
        #[arg(long)]
        force: bool,
    },
}

impl DomainCommand {
    /// Whether it may change a domain or a record.
    pub(crate) const fn changes_domain(&self) -> bool {
        !matches!(self, DomainCommand::List | DomainCommand::Export { .. })
    }
}
