"""The backend on RunPod serverless: its job API, inputs, outputs, health and pre-flight."""
