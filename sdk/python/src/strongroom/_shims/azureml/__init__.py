"""Azure ML SDK v1 in a component: ``azureml.core`` and ``azureml.exceptions``, over strongroom."""
