"""A training script for strongroom: `strongroom run train.py --policy policy.toml`."""

from strongroom import metrics, parameters, progress, secrets


def main():
    password = secrets.get("db-password")
    # strongroom redacts the values of secrets in everything that a script prints.
    print("db-password:", password)

    epochs = int(parameters.get("epochs", "10"))
    loss = 1.0
    for epoch in range(epochs):
        loss *= 0.8
        metrics.log("loss", loss, step=epoch)
        progress.report(epoch + 1, epochs, f"epoch {epoch + 1}")
    print(f"loss after {epochs} epochs: {loss:.3f}")


if __name__ == "__main__":
    main()
