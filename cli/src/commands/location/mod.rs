//! `orlop location …`: what a client asks of the server about locations.

mod change;
mod maintain;

use anyhow::Result;
use clap::{Args, Subcommand};
use orlop_proto::v1;
use tokio_util::sync::CancellationToken;

use super::backup::NameArgs;
use crate::{
    client::{ClientArgs, refused},
    exit::Outcome,
    output::OutputArgs,
    shapes::LocationShape,
};

/// Verbs on locations.
#[derive(Debug, Subcommand)]
pub(crate) enum LocationCommand {
    /// Make a location; its repository is made too if there is none
    Create(change::CreateArgs),
    /// Show all locations, or one
    Get(GetArgs),
    /// Change a location; what is not given stays as it is
    Update(change::UpdateArgs),
    /// Forget a location; everything in its store stays
    Delete(NameArgs),
    /// Look now whether a location answers and takes an object
    Validate(GetArgs),
    /// Look for damage in a location
    Check(maintain::CheckArgs),
    /// Free what no snapshot needs in a location
    Collect(maintain::CollectArgs),
}

/// Which locations.
#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// Name of one location
    name: Option<String>,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl LocationCommand {
    pub(crate) async fn run(self, cancel: CancellationToken) -> Result<Outcome> {
        match self {
            Self::Create(args) => args.run().await,
            Self::Get(args) => args.get().await,
            Self::Update(args) => args.run().await,
            Self::Delete(args) => {
                let mut locations = args.client.connect().await?.locations();
                let request = v1::DeleteLocationRequest { name: args.name };
                locations.delete(request).await.map_err(refused)?;
                Ok(Outcome::Done)
            }
            Self::Validate(args) => args.validate().await,
            Self::Check(args) => args.run(cancel).await,
            Self::Collect(args) => args.run(cancel).await,
        }
    }
}

impl GetArgs {
    async fn get(self) -> Result<Outcome> {
        let mut locations = self.client.connect().await?.locations();
        if let Some(name) = self.name {
            let request = v1::GetLocationRequest { name };
            let answer = locations.get(request).await.map_err(refused)?;
            print_one(self.output, answer.into_inner().location)?;
            return Ok(Outcome::Done);
        }
        let request = v1::ListLocationsRequest {};
        let answer = locations.list(request).await.map_err(refused)?.into_inner();
        let list: Vec<LocationShape> = answer.locations.into_iter().map(Into::into).collect();
        self.output
            .print(&list, |list| LocationShape::table(list))?;
        Ok(Outcome::Done)
    }

    async fn validate(self) -> Result<Outcome> {
        let mut locations = self.client.connect().await?.locations();
        let name = self.name.unwrap_or_default();
        let request = v1::ValidateLocationRequest { name };
        let answer = locations.validate(request).await.map_err(refused)?;
        let location = answer.into_inner().location.unwrap_or_default();
        let available = location.available;
        print_one(self.output, Some(location))?;
        Ok(Outcome::with_errors(!available))
    }
}

/// Prints one location as an object, or as a table of one line.
fn print_one(output: OutputArgs, location: Option<v1::LocationStatus>) -> Result<()> {
    let shape = LocationShape::from(location.unwrap_or_default());
    output.print(&shape, |shape| {
        LocationShape::table(std::slice::from_ref(shape))
    })
}
