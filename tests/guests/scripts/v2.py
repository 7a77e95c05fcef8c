from azure.identity import DefaultAzureCredential
from azure.keyvault.secrets import SecretClient
import mlflow

client = SecretClient(vault_url="https://my-vault.vault.azure.net", credential=DefaultAzureCredential())
password = client.get_secret("db-password").value
mlflow.log_metric("loss", 0.25, step=1)
