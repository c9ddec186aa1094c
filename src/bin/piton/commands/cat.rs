//! `piton cat`

use std::{
    io::{Write as _, copy, stdout},
    path::Path,
};

use super::{open, reader};
use crate::{Outcome, Verdict, address, arguments::Which};

pub(super) fn run(store: &Path, id: Which, state: &str) -> Outcome {
    let checkpoint = open(&reader(store)?, id)?;
    let Some(found) = address::find(checkpoint.manifest(), state) else {
        let shown = checkpoint.id();
        return Err(
            format!("checkpoint {shown} has no state {state:?}: `piton show {shown} --states ''` lists them").into()
        );
    };
    let mut out = stdout().lock();
    // The reader verifies the state before it gives out the first byte.
    copy(&mut checkpoint.reader(found.handle)?, &mut out)?;
    out.flush()?;
    Ok(Verdict::Fine)
}
