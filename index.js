'use strict'

// The main entry: the generated binding, plus the one thing that Rust cannot know, where this package lies.
// `module.exports = {...}` in exactly this form is what lets `import { generate } from 'realm-node'` find the names.
const { join } = require('node:path')

const embeddedModel = join(__dirname, 'models', 'realm-tiny', 'realm-tiny-q8_0.gguf')

module.exports = { ...require('./binding.js'), embeddedModel }
