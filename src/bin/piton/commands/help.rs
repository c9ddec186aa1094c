//! `piton completions`, `piton man`

use std::io::{Write as _, stdout};

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::{Outcome, Verdict, arguments::Arguments};

pub(super) fn completions(shell: Shell) -> Outcome {
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "piton", &mut out);
    stdout().lock().write_all(&out)?;
    Ok(Verdict::Fine)
}

/// One page: the command, then each of its verbs.
pub(super) fn man() -> Outcome {
    let mut command = Arguments::command();
    command.build();
    let mut out = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut out)?;
    for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
        let page = clap_mangen::Man::new(verb.clone());
        page.render_synopsis_section(&mut out)?;
        page.render_description_section(&mut out)?;
        page.render_options_section(&mut out)?;
    }
    stdout().lock().write_all(&out)?;
    Ok(Verdict::Fine)
}
