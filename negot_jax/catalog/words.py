"""The words of the generated catalog. Brands are invented."""

# Products in each category of AmazonHistoryPrice.
SHARES = {
    "automotive": 7,
    "baby-products": 11,
    "beauty": 12,
    "books": 13,
    "electronics": 284,
    "health-personal-care": 2,
    "home-kitchen": 23,
    "industrial-scientific": 2,
    "movies-tv": 75,
    "music": 5,
    "other": 288,
    "patio-lawn-garden": 10,
    "pet-supplies": 5,
    "software": 4,
    "sports-outdoors": 16,
    "tools-home-improvement": 144,
    "toys-games": 22,
    "video-games": 7,
}

NOUNS = {
    "automotive": ("Battery Charger", "Roof Rack", "Floor Mat Set", "Dash Camera", "Tyre Inflator"),
    "baby-products": ("Stroller", "High Chair", "Car Seat", "Sleep Monitor", "Travel Cot"),
    "beauty": ("Hair Dryer", "Face Serum", "Trimmer", "Perfume Set", "Make-up Mirror"),
    "books": ("Field Guide", "Atlas", "Cookbook", "Novel Box Set", "Dictionary"),
    "electronics": ("Headphones", "Laptop", "Monitor", "Camera Lens", "Speaker", "Tablet", "Router", "Keyboard"),
    "health-personal-care": ("Shaver", "Massager", "Toothbrush", "Scale"),
    "home-kitchen": ("Espresso Machine", "Blender", "Pan Set", "Vacuum Cleaner", "Duvet", "Table Lamp"),
    "industrial-scientific": ("Microscope", "Caliper", "Label Printer", "Thermal Camera"),
    "movies-tv": ("Film Collection", "Series Box Set", "Documentary Set", "Concert Film", "Animation Set"),
    "music": ("Vinyl Box Set", "Live Album", "Piano Works", "Jazz Anthology"),
    "other": ("Office Chair", "Backpack", "Wall Clock", "Storage Rack", "Guitar", "Printer", "Suitcase", "Desk"),
    "patio-lawn-garden": ("Lawn Mower", "Patio Heater", "Garden Hose", "Gas Grill", "Leaf Blower"),
    "pet-supplies": ("Dog Bed", "Cat Tree", "Pet Fountain", "Aquarium"),
    "software": ("Photo Editor", "Tax Suite", "Language Course", "Backup Suite"),
    "sports-outdoors": ("Tent", "Kayak", "Mountain Bike", "Rowing Machine", "Sleeping Bag"),
    "tools-home-improvement": ("Cordless Drill", "Table Saw", "Tool Chest", "Sander", "Ladder", "Light Fixture"),
    "toys-games": ("Board Game", "Building Set", "Toy Train", "Puzzle", "Drone"),
    "video-games": ("Game Console", "Controller", "Racing Wheel", "Gaming Headset"),
}

BRANDS = (
    *("Aldera", "Bravik", "Corvona", "Delmero", "Elstow", "Farnholt", "Galvery", "Hestrin", "Ivelda", "Jorvane"),
    *("Keldric", "Lumaro", "Mirrelle", "Norvick", "Ostrava Hill", "Pellwood", "Quenby", "Rostane", "Silvarn"),
    *("Tremore", "Ulvane", "Verrick", "Wexlow", "Yarrowby"),
)
ADJECTIVES = (
    *("Compact", "Classic", "Premium", "Portable", "Advanced", "Quiet", "Heavy-Duty", "Lightweight", "Smart"),
    *("Deluxe", "Essential", "Professional", "Foldable", "Signature", "Everyday", "Extended"),
)
COLORS = ("Black", "White", "Slate Grey", "Navy Blue", "Forest Green", "Red", "Silver", "Sand")

OPENINGS = (
    "The {brand} {noun} does one job and does it well.",
    "{brand} built this {noun} for people who use theirs every day.",
    "A {noun} from {brand}, redesigned from the ground up.",
    "Meet the {noun} that {brand} owners recommend to their friends.",
    "This {noun} by {brand} is ready to use out of the box.",
)
BENEFITS = (
    "It is easy to set up and easy to look after.",
    "Careful materials keep it in good shape for years.",
    "It takes up little room and is simple to store.",
    "Every part can be replaced by hand.",
    "It was tested for a full year before it went on sale.",
)
USES = (
    "A sound choice for a first purchase.",
    "Makes a good present.",
    "Suited to home and travel alike.",
    "Made for long use by demanding owners.",
    "Works well for beginners and experts.",
)
EXTRAS = (
    "Two-year warranty from the maker",
    "Spare parts included in the box",
    "Printed guide in four languages",
    "Recycled packaging",
    "Free support by telephone",
    "Carrying case included",
    "Tested to European and American safety standards",
    "Ships within one working day",
    "Thirty days to return it",
    "Assembled by hand",
)
