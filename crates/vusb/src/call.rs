//! The argument that all verbs have in common: the context, the caller's options, and the time that
//! is left.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use vusb_drivers::{Driver, Error as DriverError, Limits, OpenOptions, Scheme, When};
use vusb_model::rules::RuleSet;

use crate::address::DomainAddress;
use crate::context::Context;
use crate::error::Error;
use crate::options::{Cancel, Options, Progress};

/// One call: the context, its options, and the time that is left.
#[derive(Clone, Debug)]
pub(crate) struct Call<'a> {
    pub(crate) context: &'a Context,
    pub(crate) options: &'a Options,
    pub(crate) limits: Limits,
    /// The rules of this machine, or the mistakes in their files, once they have been read.
    rules: Arc<OnceLock<Result<RuleSet, Vec<String>>>>,
}

impl<'a> Call<'a> {
    pub(crate) fn new(context: &'a Context, options: &'a Options) -> Call<'a> {
        let limits = Limits::new(options.wait, options.deadline);
        Call { context, options, limits, rules: Arc::default() }
    }

    /// The rules of this machine. Their files are read once in a call: all devices of the call are
    /// judged by the same rules.
    ///
    /// # Errors
    /// As [`Context::rules`].
    pub(crate) fn rules(&self) -> Result<&RuleSet, Error> {
        let known = match self.rules.get() {
            Some(known) => known,
            None => {
                let read = match self.context.rules() {
                    Ok(loaded) => Ok(loaded.set),
                    Err(Error::Rules { mistakes }) => Err(mistakes),
                    Err(error) => return Err(error),
                };
                self.rules.get_or_init(|| read)
            }
        };
        known.as_ref().map_err(|mistakes| Error::Rules { mistakes: mistakes.clone() })
    }

    /// The same call with a shorter limit for single waits.
    pub(crate) fn with_wait(&self, wait: Duration) -> Call<'a> {
        let wait = wait.min(self.options.wait);
        Call { limits: Limits::new(wait, self.limits.deadline()), ..self.clone() }
    }

    /// The same call, which may take no longer than a single wait: one of many domains must not
    /// delay the others.
    pub(crate) fn brief(&self) -> Call<'a> {
        let wait = self.limits.single_wait();
        let end = Instant::now().checked_add(wait);
        let end = end.into_iter().chain(self.limits.deadline()).min();
        Call { limits: Limits::new(wait, end), ..self.clone() }
    }

    /// Asks the hypervisors of all schemes in parallel: one that hangs must not delay the others.
    pub(crate) fn ask_schemes<T: Send>(
        &self,
        ask: impl Fn(&dyn Scheme) -> T + Sync,
    ) -> Vec<(&'a dyn Scheme, T)> {
        let (context, ask) = (self.context, &ask);
        std::thread::scope(|scope| {
            let asked = context.registry().schemes().map(|it| {
                let it: &'a dyn Scheme = it.as_ref();
                (it, scope.spawn(move || ask(it)))
            });
            let asked: Vec<_> = asked.collect();
            asked.into_iter().filter_map(|(it, thread)| Some((it, thread.join().ok()?))).collect()
        })
    }

    /// The folder that relative paths start from.
    pub(crate) fn folder(&self) -> PathBuf {
        self.options.folder.clone().unwrap_or_else(|| PathBuf::from("."))
    }

    pub(crate) const fn is_dry(&self) -> bool {
        self.options.dry_run
    }

    pub(crate) const fn is_forced(&self) -> bool {
        self.options.force
    }

    pub(crate) const fn cancel(&self) -> &'a Cancel {
        &self.options.cancel
    }

    /// Reports progress to the observer.
    pub(crate) fn report(&self, progress: &Progress<'_>) {
        if let Some(observer) = &self.options.observer {
            observer.progress(progress);
        }
    }

    /// Checks that the call may go on.
    ///
    /// # Errors
    /// It was cancelled, or its deadline has passed.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.cancel().is_cancelled() {
            return Err(Error::Cancelled);
        }
        if self.limits.has_expired() {
            return Err(Error::DeadlineExceeded);
        }
        Ok(())
    }

    /// Opens the driver of a domain. `changes` says whether the call may change the domain.
    pub(crate) fn open_driver(
        &self,
        domain: &DomainAddress,
        changes: bool,
    ) -> Result<Box<dyn Driver>, DriverError> {
        let when = self.options.when;
        if when != When::default() && !domain.scheme().stores_configurations() {
            return Err(DriverError::NotImplemented {
                what: format!("a change of {domain} only now or only at its next start"),
                by: domain.scheme().title().to_owned(),
                why: "it stores no configuration for the next start of a guest".into(),
            });
        }
        let options = OpenOptions {
            limits: self.limits.clone(),
            force: self.is_forced(),
            changes,
            when,
            host: self.context.host(),
        };
        domain.scheme().open(domain.operand(), &options)
    }

    /// The address that stays the same when the guest restarts.
    pub(crate) fn canonical(&self, domain: DomainAddress) -> Result<DomainAddress, Error> {
        let operand = domain.scheme().canonical(domain.operand(), &self.limits)?;
        Ok(if operand == domain.operand() { domain } else { domain.with_operand(operand) })
    }

    /// The address in a record; `None` if no registered scheme has it.
    pub(crate) fn recorded_address(&self, text: &str) -> Option<DomainAddress> {
        let parsed = self.context.registry().parse(text, Path::new("/")).ok()??;
        Some(parsed.into())
    }
}

/// Whether `error`, from an attempt to reach the domain, means that its guest has ended.
pub(crate) fn is_gone(domain: &DomainAddress, error: &DriverError) -> bool {
    domain.scheme().is_gone(domain.operand(), error)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use vusb_host::Host;

    use super::*;
    use crate::state::StateDir;

    #[test]
    fn rules_are_read_once_in_a_call_and_again_in_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::new(dir.path().join("state"));
        let folder = dir.path().join("rules");
        fs::create_dir(&folder).unwrap();
        let context = Context::with_builtin_drivers(state, Host::new(dir.path()))
            .with_rules_in(vec![folder.clone()]);
        let options = Options::default();
        let rule = "[[rule]]\nname = \"a\"\nid = \"0781:5581\"\ndeny = \"*\"\n";
        fs::write(folder.join("a.toml"), rule).unwrap();
        let call = Call::new(&context, &options);
        assert_eq!(call.rules().unwrap().rules.len(), 1);
        fs::write(folder.join("a.toml"), "mistake").unwrap();
        assert_eq!(call.clone().rules().unwrap().rules.len(), 1);
        // A mistake is kept as well.
        let next = Call::new(&context, &options);
        assert!(matches!(next.rules(), Err(Error::Rules { .. })));
        fs::remove_file(folder.join("a.toml")).unwrap();
        assert!(matches!(next.rules(), Err(Error::Rules { .. })));
        assert!(Call::new(&context, &options).rules().unwrap().rules.is_empty());
    }

    #[test]
    fn a_limit_can_be_shortened_and_never_extended() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::new(dir.path().join("state"));
        let context = Context::with_builtin_drivers(state, Host::new(dir.path()));
        let wait = Duration::from_secs(10);
        let soon = Instant::now() + Duration::from_secs(1);
        for deadline in [None, Some(soon)] {
            let options = Options { wait, deadline, ..Options::default() };
            let call = Call::new(&context, &options);
            let short = call.with_wait(Duration::from_secs(2));
            assert_eq!(
                short.limits.single_wait(),
                Duration::from_secs(2).min(call.limits.single_wait())
            );
            assert_eq!(short.limits.deadline(), deadline);
            assert!(call.with_wait(wait * 2).limits.single_wait() <= wait);
            // A brief call takes no longer than a single wait, and ends by the deadline.
            let latest = deadline.unwrap_or_else(|| Instant::now() + wait);
            let end = call.brief().limits.deadline().unwrap();
            assert!(
                end <= latest.max(Instant::now() + wait) && deadline.is_none_or(|it| end <= it)
            );
        }
    }
}
