"""The part of ``azure.core`` that scripts use: its exceptions."""
