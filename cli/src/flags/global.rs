//! Flags that every command has. Those that are settings of a run have the texts of the settings.

use clap::Args;

use super::positive;
use super::training::help_of;

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Everywhere")]
pub struct GlobalFlags {
    #[arg(long, global = true, value_parser = device, help = help_of("device"))]
    pub device: Option<String>,
    #[arg(long, global = true, value_parser = ["f32", "f32x2", "bf16", "tf32", "int8"], help = help_of("dtype"))]
    pub dtype: Option<String>,
    #[arg(long, global = true, value_name = "N", help = help_of("seed"))]
    pub seed: Option<u64>,
    #[arg(long, global = true, value_name = "N", value_parser = positive, help = help_of("threads"))]
    pub threads: Option<usize>,
    #[arg(long, global = true, value_name = "KERNELS", help = help_of("kernels"))]
    pub kernels: Option<String>,
    /// Print more, such as what became of every tensor that was loaded
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    pub verbose: bool,
    /// Print nothing but results and errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Print the result as one JSON object
    #[arg(long, global = true)]
    pub json: bool,
}

fn device(text: &str) -> Result<String, String> {
    let numbered = text.strip_prefix("cuda:").is_some_and(|number| number.parse::<usize>().is_ok());
    if numbered || ["auto", "cpu", "cuda", "metal"].contains(&text) {
        Ok(text.into())
    } else {
        Err("expected auto, cpu, cuda, cuda:N or metal".into())
    }
}
