//! `vusb domain`: the recorded domains.

use std::io;

use vusb::{DomainAddress, Outcome};

use crate::arguments::DomainCommand;
use crate::run::{Cli, Result};
use crate::{remedy, safe, tables};

impl Cli {
    pub(crate) fn domain_command(&self, command: &DomainCommand) -> Result {
        match command {
            DomainCommand::List => {
                let view = self.context.domains(&self.options)?;
                if view.domains.is_empty() {
                    self.screen.note("no domain has a record yet");
                }
                self.show(&view, || tables::recorded(&view))
            }
            DomainCommand::Rename { domain, name } => {
                let domain = self.domain(domain)?;
                let renamed = self.context.domain_rename(&domain, name, &self.options)?;
                let done = match (renamed.already, renamed.dry_run) {
                    (true, _) => Some(format!("{domain} is already named {name}")),
                    (false, true) => Some(format!("would rename {domain} to {name}")),
                    // A note of the library reports it.
                    (false, false) => None,
                };
                self.report_record_change(&renamed, done)
            }
            DomainCommand::Export { domain } => {
                let view = self.context.domain_export(&self.domain(domain)?, &self.options)?;
                if self.screen.json {
                    return Ok(self.screen.json(&view)?);
                }
                let text = serde_json::to_string_pretty(&view).map_err(io::Error::from)?;
                // Escaped line by line, because the line ends between values must stay.
                let lines: Vec<String> =
                    text.lines().map(|it| safe::json(it).to_string()).collect();
                Ok(self.screen.unescaped(&lines.join("\n"))?)
            }
            DomainCommand::Import { file, domain, force } => {
                let domain = domain.as_deref().map(|it| self.domain(it)).transpose()?;
                let options = self.forced(*force);
                let imported = self.context.domain_import(file, domain.as_ref(), &options)?;
                let verb = if imported.dry_run { "would import" } else { "imported" };
                let done = format!("{verb} the record of {}", imported.domain);
                self.report_record_change(&imported, Some(done))
            }
            DomainCommand::Forget { domain, force } => {
                let domain = self.domain(domain)?;
                let forgotten = self.context.domain_forget(&domain, &self.forced(*force))?;
                let verb = if forgotten.dry_run { "would forget" } else { "forgot" };
                let done = format!("{verb} {}", with_address(&forgotten.domain, &domain));
                self.report_record_change(&forgotten, Some(done))
            }
        }
    }

    /// Prints the result of a command that only changes a record.
    fn report_record_change(&self, outcome: &Outcome, done: Option<String>) -> Result {
        if self.screen.json {
            return Ok(self.screen.json(outcome)?);
        }
        outcome.notes.iter().for_each(|it| self.screen.note(&remedy::note(it)));
        if let Some(done) = done {
            self.screen.note(&done);
        }
        Ok(())
    }
}

/// `web1 (qemu:/run/web1.qmp)`, or the address alone.
fn with_address(name: &str, domain: &DomainAddress) -> String {
    if name == domain.as_str() { name.to_owned() } else { format!("{name} ({domain})") }
}
