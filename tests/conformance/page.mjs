// What a page gives to the script of a dashboard: elements that print what is put into them, and /token.
class Element extends EventTarget {
  children = [];
  #text = "";

  constructor(selector) {
    super();
    this.selector = selector;
  }

  get textContent() {
    return this.#text + this.children.map((child) => child.textContent).join(" ");
  }

  set textContent(text) {
    this.#text = text;
    this.#print();
  }

  append(...children) {
    this.children.push(...children);
  }

  replaceChildren(...children) {
    this.children = children;
    this.#print();
  }

  #print() {
    if (this.selector) console.log(`${this.selector} ${this.textContent}`);
  }
}

globalThis.document = Object.assign(new EventTarget(), {
  createElement: () => new Element(),
  querySelector: (selector) => new Element(selector),
});
globalThis.fetch = async () => new Response(process.env.TOKEN);
